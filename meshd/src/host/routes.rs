//! Which routes we add, and what to change to get there. Pure functions.
//!
//! A mesh route must never hide what the machine itself knows better. So a mesh prefix on a connected network is left out, and
//! for each route of table main inside a mesh prefix there is a `throw` entry, by which a lookup in a table of our own falls
//! through to main. Where ours stand in main too, the longest prefix wins without.

use std::collections::{HashMap, HashSet};
use std::iter;
use std::net::IpAddr;

use ipnet::IpNet;
use proto::id::EndpointName;

use super::plan::{HostNote, Plan};

/// A route of table main, on an interface that is not ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MainRoute {
    pub(super) prefix: IpNet,
    /// `None` for blackholes and the like.
    pub(super) interface: Option<String>,
    /// Its destinations are neighbours: link scope, no gateway.
    pub(super) is_connected: bool,
}

/// What an entry does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Into the mesh.
    Mesh,
    /// Out of a table of our own, on to main.
    Throw,
}

/// An entry that there should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Desired {
    pub(super) prefix: IpNet,
    pub(super) action: Action,
    /// Preferred source address.
    pub(super) source: Option<IpAddr>,
}

/// An entry of ours that there is; `None` is an action that is no longer right, such as another interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Present {
    pub(super) prefix: IpNet,
    pub(super) action: Option<Action>,
    pub(super) source: Option<IpAddr>,
}

/// One request to the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Fails if anyone has an entry for the prefix.
    Add(Desired),
    /// In place of an entry of ours, without a moment between.
    Replace(Desired),
    /// An entry of ours.
    Remove(IpNet),
}

impl Change {
    pub(super) const fn prefix(&self) -> IpNet {
        match self {
            Self::Add(route) | Self::Replace(route) => route.prefix,
            Self::Remove(prefix) => *prefix,
        }
    }
}

/// The entries for this plan next to these routes of main, and what was left out.
pub(super) fn desired_routes(plan: &Plan, main_routes: &[MainRoute]) -> (Vec<Desired>, Vec<HostNote>) {
    let mut notes = Vec::new();
    let mut main: HashMap<IpNet, &MainRoute> = HashMap::new();
    for route in main_routes.iter().filter(|route| route.prefix.prefix_len() > 0) {
        let known = main.entry(route.prefix.trunc()).or_insert(route);
        if route.is_connected {
            *known = route;
        }
    }
    let mut seen = HashSet::new();
    let mut mesh = Vec::new();
    let halves =
        plan.routes.iter().flat_map(|planned| without_default(planned.prefix).map(move |half| (planned, half)));
    for (planned, prefix) in halves {
        if !seen.insert(prefix) {
            continue;
        }
        match obstacle(prefix, &planned.owner, &main) {
            Some(note) => notes.push(note),
            None => mesh.push(prefix),
        }
    }
    let installed: HashSet<IpNet> = mesh.iter().copied().collect();
    let mut throws: Vec<IpNet> =
        main.into_keys().filter(|prefix| around(*prefix).any(|p| installed.contains(&p))).collect();
    throws.sort_unstable();
    let throws = throws.into_iter().map(|prefix| Desired { prefix, action: Action::Throw, source: None });
    let mesh = mesh.into_iter().map(|prefix| {
        let source = plan.source(prefix.addr().is_ipv6());
        Desired { prefix, action: Action::Mesh, source }
    });
    (throws.chain(mesh).collect(), notes)
}

/// The prefix, or its two halves where it is the default route: the machine keeps its own, which datagrams to the peers need.
pub(super) fn without_default(prefix: IpNet) -> impl Iterator<Item = IpNet> {
    let prefix = prefix.trunc();
    let halves = (prefix.prefix_len() == 0).then(|| prefix.subnets(1).ok()).flatten();
    let whole = halves.is_none().then_some(prefix);
    halves.into_iter().flatten().chain(whole)
}

fn obstacle(prefix: IpNet, owner: &EndpointName, main: &HashMap<IpNet, &MainRoute>) -> Option<HostNote> {
    let owner = owner.clone();
    let connected = around(prefix).filter_map(|network| main.get(&network)).find(|route| route.is_connected);
    if let Some(MainRoute { prefix: network, interface, .. }) = connected {
        let interface = interface.clone().unwrap_or_default();
        return Some(HostNote::Connected { prefix, owner, network: network.trunc(), interface });
    }
    main.get(&prefix).map(|route| HostNote::LocalRoute { prefix, owner, interface: route.interface.clone() })
}

/// Those of `addresses` that these entries would send into the mesh.
pub(super) fn in_mesh(addresses: &[IpAddr], desired: &[Desired]) -> Vec<IpAddr> {
    let actions: HashMap<IpNet, Action> = desired.iter().map(|route| (route.prefix, route.action)).collect();
    let action = |address: &IpAddr| around(IpNet::from(*address)).find_map(|prefix| actions.get(&prefix));
    addresses.iter().copied().filter(|address| action(address) == Some(&Action::Mesh)).collect()
}

/// The prefix itself, then every wider one up to the default route.
fn around(prefix: IpNet) -> impl Iterator<Item = IpNet> {
    iter::successors(Some(prefix), IpNet::supernet)
}

/// The requests that turn what there is into what there should be.
///
/// In their order, no local prefix is shadowed between two requests: throws come first and go last.
pub(super) fn changes(present: &[Present], desired: &[Desired]) -> Vec<Change> {
    let has: HashMap<IpNet, &Present> = present.iter().map(|route| (route.prefix, route)).collect();
    let wants: HashSet<IpNet> = desired.iter().map(|route| route.prefix).collect();
    let by_action = |action| desired.iter().filter(move |route| route.action == action);
    let mut changes = Vec::new();
    for route in by_action(Action::Throw).chain(by_action(Action::Mesh)) {
        match has.get(&route.prefix) {
            None => changes.push(Change::Add(route.clone())),
            Some(old) if old.action == Some(route.action) && old.source == route.source => {}
            Some(_) => changes.push(Change::Replace(route.clone())),
        }
    }
    let gone = |throw| {
        let old = present.iter().filter(move |old| (old.action == Some(Action::Throw)) == throw);
        old.map(|old| old.prefix).filter(|prefix| !wants.contains(prefix)).map(Change::Remove)
    };
    changes.extend(gone(false));
    changes.extend(gone(true));
    changes
}

#[cfg(test)]
mod tests {
    use super::super::plan::PlannedRoute;
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn plan(prefixes: &[&str]) -> Plan {
        let routes =
            prefixes.iter().map(|text| PlannedRoute { prefix: net(text), owner: "a.b".parse().unwrap() }).collect();
        Plan { addresses: vec![net("10.99.0.1/32"), net("fd00::1/128")], routes, ..Plan::default() }
    }

    fn main(text: &str, is_connected: bool) -> MainRoute {
        MainRoute { prefix: net(text), interface: Some("eth0".into()), is_connected }
    }

    fn lines(desired: &[Desired]) -> Vec<String> {
        desired.iter().map(|route| format!("{:?} {}", route.action, route.prefix)).collect()
    }

    #[test]
    fn a_more_specific_local_prefix_is_thrown_back_to_main() {
        let (desired, notes) =
            desired_routes(&plan(&["10.0.0.0/8"]), &[main("10.1.0.0/16", false), main("10.2.3.0/24", true)]);
        assert_eq!(lines(&desired), ["Throw 10.1.0.0/16", "Throw 10.2.3.0/24", "Mesh 10.0.0.0/8"]);
        assert_eq!(notes, []);
    }

    #[test]
    fn a_prefix_on_a_connected_network_is_left_out_with_a_note_that_names_all() {
        for prefix in ["192.168.1.7/32", "192.168.1.0/24"] {
            let (desired, notes) = desired_routes(&plan(&[prefix]), &[main("192.168.1.0/24", true)]);
            assert_eq!(desired, []);
            let text = notes[0].to_string();
            assert!(["a.b", "eth0", "192.168.1.0/24", prefix].iter().all(|word| text.contains(word)), "{text}");
        }
    }

    #[test]
    fn a_wider_route_through_a_gateway_does_not_stop_a_mesh_prefix() {
        let (desired, notes) = desired_routes(&plan(&["10.1.0.0/16"]), &[main("10.0.0.0/8", false)]);
        assert_eq!((lines(&desired), notes), (vec!["Mesh 10.1.0.0/16".to_owned()], vec![]));
    }

    #[test]
    fn an_equal_local_route_wins_even_below_a_wider_mesh_prefix() {
        let (desired, notes) = desired_routes(&plan(&["10.0.0.0/8", "10.1.0.0/16"]), &[main("10.1.0.0/16", false)]);
        assert_eq!(lines(&desired), ["Throw 10.1.0.0/16", "Mesh 10.0.0.0/8"]);
        assert!(matches!(&notes[..], [HostNote::LocalRoute { .. }]));
    }

    #[test]
    fn a_default_route_into_the_mesh_is_two_halves_and_the_machines_own_never_counts() {
        let main = [main("0.0.0.0/0", false), main("::/0", true), main("fd01::/64", true)];
        let (desired, notes) = desired_routes(&plan(&["0.0.0.0/0", "10.1.2.3/16", "10.1.0.0/16"]), &main);
        assert_eq!(lines(&desired), ["Mesh 0.0.0.0/1", "Mesh 128.0.0.0/1", "Mesh 10.1.0.0/16"]);
        assert_eq!(notes, []);
    }

    #[test]
    fn mesh_routes_carry_our_address_of_their_family_as_source() {
        let (desired, _) = desired_routes(&plan(&["10.0.0.0/8", "fd01::/16"]), &[]);
        let sources: Vec<_> = desired.iter().filter_map(|route| route.source).collect();
        assert_eq!(sources, ["10.99.0.1".parse::<IpAddr>().unwrap(), "fd00::1".parse().unwrap()]);
    }

    /// Every pair of small prefix sets: who wins a lookup is decided here by longest match over both tables.
    #[test]
    fn for_every_address_the_machine_keeps_what_it_knows_better() {
        let all: Vec<IpNet> = (28..=32).flat_map(|len| net("10.0.0.0/28").subnets(len).unwrap()).collect();
        let mut state = 1u32;
        let mut random = move || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) as usize
        };
        for _ in 0..2_000 {
            let main: Vec<_> = (0..random() % 4)
                .map(|_| MainRoute {
                    prefix: all[random() % all.len()],
                    interface: None,
                    is_connected: random() % 2 == 0,
                })
                .collect();
            let routes = (0..random() % 4)
                .map(|_| PlannedRoute { prefix: all[random() % all.len()], owner: "o.o".parse().unwrap() });
            let plan = Plan { routes: routes.collect(), ..Plan::default() };
            let (desired, notes) = desired_routes(&plan, &main);
            let distinct: HashSet<IpNet> = plan.routes.iter().map(|route| route.prefix).collect();
            let meshed = desired.iter().filter(|route| route.action == Action::Mesh).count();
            assert_eq!(meshed + notes.len(), distinct.len());
            for host in net("10.0.0.0/28").subnets(32).unwrap() {
                let longest = |prefixes: &mut dyn Iterator<Item = IpNet>| {
                    prefixes.filter(|p| p.contains(&host)).map(|p| p.prefix_len()).max()
                };
                let table = desired.iter().filter(|route| route.prefix.contains(&host));
                let goes = table.max_by_key(|route| route.prefix.prefix_len()).map(|route| route.action);
                let local = longest(&mut main.iter().map(|route| route.prefix));
                let wanted = longest(&mut plan.routes.iter().map(|route| route.prefix));
                let connected = longest(&mut main.iter().filter(|route| route.is_connected).map(|route| route.prefix));
                let into_mesh = wanted > local && connected.is_none();
                assert_eq!(goes == Some(Action::Mesh), into_mesh, "{host} {main:?} {:?}", plan.routes);
            }
        }
    }

    #[test]
    fn only_differences_are_applied_and_throws_come_first_and_go_last() {
        let throw = |text| Desired { prefix: net(text), action: Action::Throw, source: None };
        let mesh = |text| Desired { prefix: net(text), action: Action::Mesh, source: None };
        let present =
            |route: Desired| Present { prefix: route.prefix, action: Some(route.action), source: route.source };
        let old = [present(throw("10.9.0.0/16")), present(mesh("10.0.0.0/8")), present(mesh("11.0.0.0/8"))];
        let wanted = [mesh("10.0.0.0/8"), mesh("12.0.0.0/8"), throw("12.1.0.0/16")];
        assert_eq!(
            changes(&old, &wanted),
            [
                Change::Add(throw("12.1.0.0/16")),
                Change::Add(mesh("12.0.0.0/8")),
                Change::Remove(net("11.0.0.0/8")),
                Change::Remove(net("10.9.0.0/16"))
            ]
        );
        let after: Vec<_> = wanted.iter().cloned().map(present).collect();
        assert_eq!(changes(&after, &wanted), []);
        let stale = [Present { prefix: net("10.0.0.0/8"), action: None, source: None }];
        assert_eq!(changes(&stale, &wanted[..1]), [Change::Replace(mesh("10.0.0.0/8"))]);
    }
}
