//! A link that can be spoilt: cut, narrowed, made lossy or slow, closed to UDP, while traffic runs over it.
//!
//! There is no netem on many machines. Between the two ends of a [`Link`] is therefore a namespace of its own: a bridge
//! while the link is fast, and threads that hold frames back while it is slow. The ends have no offloads, so every frame
//! is what a wire would carry: one packet, its checksum complete.

mod delay;

use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use self::delay::Delay;
use crate::host::Host;
use crate::lab::{Lab, Switch};

/// The least MTU of a link, in bytes: Linux takes IPv6 away from a narrower interface (RFC 8200 §5).
const LEAST_MTU: usize = 1280;

/// A link between two hosts.
#[derive(Debug)]
pub struct Link {
    middle: Switch,
    ends: [End; 2],
    faults: Mutex<Faults>,
}

/// One end of a [`Link`].
#[derive(Clone, Debug)]
pub struct End {
    /// Whose it is.
    pub host: Host,
    /// Its name there.
    pub interface: String,
    /// The other side of it, in the middle.
    port: String,
}

#[derive(Debug, Default)]
struct Faults {
    loss: u8,
    udp: Udp,
    delay: Option<Delay>,
}

/// Whether UDP passes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Udp {
    /// As everything else.
    #[default]
    Passes,
    /// Dropped in both directions, without a word.
    Dropped,
}

impl Link {
    /// Connects two hosts, each with the addresses given with it (`192.0.2.1/24`); `name` is that of the middle.
    ///
    /// # Panics
    /// When there is a host `name` already.
    #[must_use]
    pub fn between(lab: &Lab, name: &str, ends: [(&Host, &[&str]); 2]) -> Self {
        let middle = lab.switch(name);
        let ends = ends.map(|(host, addresses)| {
            let interface = lab.plug(host, &middle, addresses);
            host.ok(&format!("ethtool -K {interface} tx off"));
            // The bridge lists its ports in the order in which they were made.
            let ports = middle.host.json("ip -j link show master br0");
            let port = ports.as_array().and_then(|ports| ports.last()?["ifname"].as_str()).expect("the port just made");
            End { host: host.clone(), interface, port: port.to_owned() }
        });
        Self { middle, ends, faults: Mutex::default() }
    }

    /// Both ends, in the order in which they were given.
    #[must_use]
    pub const fn ends(&self) -> &[End; 2] {
        &self.ends
    }

    /// Takes the carrier from both ends, as a pulled plug does; addresses and routes stay.
    pub fn cut(&self) {
        self.set_ports("down");
    }

    /// Undoes [`cut`](Self::cut); both ends have a carrier when it returns.
    ///
    /// # Panics
    /// When they have none after 5 s.
    pub fn mend(&self) {
        self.set_ports("up");
        for end in &self.ends {
            end.host.wait_settled(&end.interface);
        }
    }

    /// Makes the MTU of both ends `bytes`, at least 1280: who forwards larger packets onto the link says so by ICMP.
    ///
    /// # Panics
    /// When `bytes` is less.
    pub fn set_mtu(&self, bytes: usize) {
        assert!(bytes >= LEAST_MTU, "{bytes} bytes are too few for IPv6");
        for end in &self.ends {
            end.host.ok(&format!("ip link set {} mtu {bytes}", end.interface));
        }
    }

    /// Makes the link swallow packets of more than `bytes`, without a word to anybody: a black hole (RFC 2923 §2.1).
    pub fn set_silent_mtu(&self, bytes: usize) {
        for end in &self.ends {
            self.middle.host.ok(&format!("ip link set {} mtu {bytes}", end.port));
        }
    }

    /// Drops so many of a hundred packets in each direction, at random, from now on. What resolves neighbours is spared,
    /// so the share is that of TCP, UDP and echoes.
    ///
    /// # Panics
    /// When `percent` is over 100.
    pub fn set_loss(&self, percent: u8) {
        assert!(percent <= 100, "{percent} of a hundred");
        let mut faults = self.faults();
        faults.loss = percent;
        self.apply(&faults);
    }

    /// Drops UDP in both directions, or lets it pass.
    pub fn set_udp(&self, udp: Udp) {
        let mut faults = self.faults();
        faults.udp = udp;
        self.apply(&faults);
    }

    /// Holds every frame back for `delay` in each direction; zero is a fast link again. What is under way is lost.
    pub fn set_delay(&self, delay: Duration) {
        let mut faults = self.faults();
        faults.delay = None;
        let is_slow = !delay.is_zero();
        let master = if is_slow { "nomaster" } else { "master br0" };
        for end in &self.ends {
            self.middle.host.ok(&format!("ip link set {} {master}", end.port));
        }
        if is_slow {
            let ports = self.ends.each_ref().map(|end| end.port.as_str());
            faults.delay = Some(Delay::start(&self.middle.host, ports, delay));
        }
    }

    fn set_ports(&self, state: &str) {
        for end in &self.ends {
            self.middle.host.ok(&format!("ip link set {} {state}", end.port));
        }
    }

    fn apply(&self, faults: &Faults) {
        let rules = self.rules(faults);
        // One transaction: at no moment does anything pass that neither the old nor the new rules let pass.
        let text = format!("table netdev faults {{}}\ndelete table netdev faults\ntable netdev faults {{\n{rules}}}\n");
        let _ = self.middle.host.output(Command::new("nft").arg(text)).text();
    }

    fn rules(&self, faults: &Faults) -> String {
        let mut drops = String::new();
        if faults.udp == Udp::Dropped {
            drops.push_str("meta l4proto udp drop\n");
        }
        if faults.loss > 0 {
            let lost = format!("numgen random mod 100 < {} drop\n", faults.loss);
            drops.push_str(&format!("meta l4proto {{ tcp, udp, icmp }} {lost}"));
            drops.push_str(&format!("icmpv6 type {{ echo-request, echo-reply }} {lost}"));
        }
        // On the way out of the middle: frames that threads send pass no hook on the way in.
        let chain = |end: &End| {
            let port = &end.port;
            format!("chain {port} {{\ntype filter hook egress device {port} priority 0;\n{drops}}}\n")
        };
        self.ends.iter().map(chain).collect()
    }

    fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
