//! The table against a model that remembers every datagram.

use std::net::SocketAddr;
use std::time::Duration;

use proptest::prelude::*;
use proto::time::Instant;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng as _;

use super::{Behaviour, Nat, NatPlan, Ports};

/// A datagram that left: whose, to whom, by which port, and when it is forgotten.
struct Sent {
    internal: SocketAddr,
    remote: SocketAddr,
    port: u16,
    until: Instant,
}

struct Model {
    plan: NatPlan,
    sent: Vec<Sent>,
}

impl Model {
    /// The port that a datagram has to leave by, if a live mapping says.
    fn mapped(&self, internal: SocketAddr, remote: SocketAddr, now: Instant) -> Option<u16> {
        let is_it = |sent: &&Sent| {
            let same = self.plan.mapping.of(sent.remote) == self.plan.mapping.of(remote);
            sent.until > now && sent.internal == internal && same
        };
        self.sent.iter().rev().find(is_it).map(|sent| sent.port)
    }

    /// Who gets what comes in.
    fn receiver(&self, port: u16, remote: SocketAddr, now: Instant) -> Option<SocketAddr> {
        let is_it = |sent: &&Sent| {
            let permitted = self.plan.filtering.of(sent.remote) == self.plan.filtering.of(remote);
            sent.until > now && sent.port == port && permitted
        };
        self.sent.iter().find(is_it).map(|sent| sent.internal)
    }
}

fn behaviour() -> impl Strategy<Value = Behaviour> {
    prop::sample::select(vec![
        Behaviour::EndpointIndependent,
        Behaviour::AddressDependent,
        Behaviour::AddressAndPortDependent,
    ])
}

fn plan() -> impl Strategy<Value = NatPlan> {
    // Preserved ports are shared, which the model knows nothing of.
    let ports =
        prop::sample::select(vec![Ports::Random, Ports::Sequential { delta: 1 }, Ports::Sequential { delta: 7 }]);
    (behaviour(), behaviour(), ports).prop_map(|(mapping, filtering, ports)| NatPlan {
        mapping,
        filtering,
        ports,
        ..NatPlan::HOME
    })
}

fn remote(n: u8) -> SocketAddr {
    SocketAddr::from(([203, 0, 113, n / 3], u16::from(n % 3)))
}

proptest! {
    #[test]
    fn a_table_maps_filters_and_forgets_as_a_list_of_all_datagrams_would(
        plan in plan(),
        steps in prop::collection::vec((0..3u8, 0..9u8, 0..12_000u64, any::<prop::sample::Index>()), 1..120),
    ) {
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let mut nat = Nat::new(plan, &mut rng);
        let mut model = Model { plan, sent: Vec::new() };
        let mut now = Instant::ORIGIN;
        for (host, to, pause, old) in steps {
            now = now + Duration::from_millis(pause);
            let (internal, to) = (SocketAddr::from(([192, 168, 1, host], 6374)), remote(to));
            let expected = model.mapped(internal, to, now);
            let port = nat.outbound(internal, to, now, &mut rng).expect("the table has room");
            match expected {
                Some(expected) => prop_assert_eq!(port, expected),
                None => prop_assert!(model.sent.iter().all(|sent| sent.until <= now || sent.port != port)),
            }
            model.sent.push(Sent { internal, remote: to, port, until: now + plan.lifetime });
            let port = old.get(&model.sent).port;
            for from in (0..9).map(remote) {
                prop_assert_eq!(nat.inbound(port, from, now), model.receiver(port, from, now));
            }
        }
        prop_assert_eq!(nat.entries(now + plan.lifetime), 0);
    }
}
