//! A router with a NAT and a firewall, and what befalls such.

use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::conntrack;
use super::rules::Setting;
use super::{Hairpin, NatKind, Wall};
use crate::host::Host;

/// How long a mapping lives that nobody uses: Linux's own time for UDP that was answered (RFC 4787 §4.3 asks for as much).
const MEMORY: Duration = Duration::from_secs(120);

/// A router between a LAN and the internet, or another gateway.
#[derive(Debug)]
pub struct Gateway {
    /// Its namespace.
    pub host: Host,
    /// Its interface to the LAN.
    pub inside: String,
    /// Its interface to the internet, or to the next gateway.
    pub outside: String,
    kind: NatKind,
    wall: Wall,
    hairpin: Hairpin,
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug)]
struct State {
    outer: Ipv4Addr,
    memory: Duration,
}

/// What a gateway is made of.
pub(super) struct Parts {
    pub(super) host: Host,
    pub(super) inside: String,
    pub(super) outside: String,
    pub(super) kind: NatKind,
    pub(super) wall: Wall,
    pub(super) hairpin: Hairpin,
    pub(super) outer: Ipv4Addr,
}

impl Gateway {
    pub(super) fn start(parts: Parts) -> Self {
        let Parts { host, inside, outside, kind, wall, hairpin, outer } = parts;
        let state = Mutex::new(State { outer, memory: MEMORY });
        let gateway = Self { host, inside, outside, kind, wall, hairpin, state };
        gateway.start_anew(&gateway.state());
        gateway
    }

    /// The address that it has outside, and translates to.
    #[must_use]
    pub fn outer(&self) -> Ipv4Addr {
        self.state().outer
    }

    /// Forgets every mapping and connection of both families, as a router does that starts again.
    pub fn forget(&self) {
        self.start_anew(&self.state());
    }

    /// Gives it another address outside, in the same network, in place of the one that it has, and forgets everything: a
    /// provider's daily one. The default route stays.
    ///
    /// # Panics
    /// When it translates nothing: the hosts behind it have the public addresses then.
    pub fn set_outer(&self, outer: Ipv4Addr) {
        assert_ne!(self.kind, NatKind::None, "a router that translates nothing has no outer address");
        let mut state = self.state();
        let (host, outside) = (&self.host, &self.outside);
        let route = host.json("ip -j -4 route show default");
        let via = route[0]["gateway"].as_str().expect("a default route").to_owned();
        // The first address of a network takes the others with it when it goes, and the routes through it.
        host.ok(&format!("ip address del {}/24 dev {outside}", state.outer));
        host.add_address(outside, &format!("{outer}/24"));
        host.ok(&format!("ip route replace default via {via}"));
        state.outer = outer;
        self.start_anew(&state);
    }

    /// Makes it forget UDP mappings that nobody used for `time`, in whole seconds, 120 s until then; and at once all that it
    /// has.
    pub fn set_memory(&self, time: Duration) {
        let mut state = self.state();
        state.memory = time;
        self.start_anew(&state);
    }

    fn start_anew(&self, state: &State) {
        let setting = Setting {
            kind: self.kind,
            wall: self.wall,
            hairpin: self.hairpin,
            inside: &self.inside,
            outside: &self.outside,
            outer: state.outer,
            memory: state.memory.as_secs(),
        };
        let _ = self.host.output(Command::new("nft").arg(setting.text())).text();
        let is_tracking = self.kind != NatKind::None || self.wall != Wall::Open;
        // The settings are there once something tracks.
        for name in ["udp_timeout", "udp_timeout_stream"].into_iter().filter(|_| is_tracking) {
            let name = format!("net/netfilter/nf_conntrack_{name}");
            self.host.set_sysctl(&name, &state.memory.as_secs().to_string());
        }
        conntrack::flush(&self.host);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
