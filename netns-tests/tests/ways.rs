//! Every pair of what stands before two edges: they talk from the first datagram on, and end at the way that the rule says.
//!
//! Each test has a mesh of its own, in which each edge has one partner at a time. What takes how long is no matter here:
//! `bench ways` measures that.

use std::time::Duration;

use netns_tests::nat::{Class, Internet, NatKind};
use netns_tests::ways::{Group, Met, Way, expected};
use netns_tests::{Family, Lab, Mesh, figure, in_lab, in_lab_for, ping, wait_until};

/// The longest for all pairs of a group.
const LIMIT: Duration = Duration::from_secs(240);

fn every_pair_ends_at_its_way(group: Group, lab: &Lab) -> Vec<Met> {
    let all = group.meet(lab, Duration::ZERO);
    let half = |mut times: Vec<Duration>| {
        times.sort_unstable();
        times.get(times.len() / 2).copied().unwrap_or_default()
    };
    let first = half(all.iter().map(|met| met.first_byte).collect());
    let direct: Vec<Duration> = all.iter().filter_map(|met| met.direct).collect();
    figure(&format!(
        "{group:?} NATs: {} of {} pairs direct; half of all in touch after {first:.0?}, half of those direct after {:.0?}",
        direct.len(),
        all.len(),
        half(direct.clone())
    ));
    // Tries at random may fail, and are counted.
    let is_wrong = |met: &&Met| met.way != expected(&met.one, &met.other) && !met.is_spent;
    let wrong: Vec<_> = all.iter().filter(is_wrong).collect();
    assert!(!all.is_empty() && wrong.is_empty(), "{} of {}: {wrong:#?}", wrong.len(), all.len());
    all
}

#[test]
fn two_edges_whose_ports_stay_meet_directly() {
    in_lab_for(LIMIT, |lab| drop(every_pair_ends_at_its_way(Group::Kept, lab)));
}

#[test]
fn an_edge_whose_ports_stay_meets_one_whose_ports_change_directly() {
    in_lab_for(LIMIT, |lab| {
        let all = every_pair_ends_at_its_way(Group::Mixed, lab);
        let direct = all.iter().filter(|met| met.way == Way::Direct).count();
        assert!(direct * 10 >= all.len() * 7, "{direct} of {}: {all:#?}", all.len());
    });
}

#[test]
fn two_edges_whose_ports_change_meet_directly_where_both_count_and_at_a_relay_otherwise() {
    in_lab_for(LIMIT, |lab| drop(every_pair_ends_at_its_way(Group::Changing, lab)));
}

#[test]
fn edges_with_ipv6_meet_over_it_and_those_without_a_family_in_common_at_a_relay() {
    in_lab_for(LIMIT, |lab| drop(every_pair_ends_at_its_way(Group::Others, lab)));
}

#[test]
fn edges_behind_one_nat_meet_inside_it_whether_it_hairpins_or_not() {
    in_lab(|lab| {
        let internet = Internet::new(lab);
        let mut mesh = Mesh::new(lab, "inside");
        for number in 0..3 {
            let (hub, _link) = internet.host(&format!("hub{number}"), 1);
            let name = format!("hub.connector{number}");
            mesh.connector(&name, &hub.host, &hub.v4[0].to_string()).address(&format!("10.98.0.{}", number + 1));
        }
        let kinds = [NatKind::PortRestricted, NatKind::SymmetricSequential, NatKind::SymmetricRandom];
        let classes = kinds.map(Class::v4).into_iter().chain([Class::v4(NatKind::Cgn).hairpinning()]);
        let sites: Vec<_> = (1..)
            .zip(classes)
            .map(|(number, class)| {
                let premises = internet.premises(&format!("p{number}"), class);
                let hosts = ["a", "b"].map(|host| premises.host(&format!("p{number}{host}")));
                let names = ["a", "b"].map(|edge| format!("hub.{edge}{number}"));
                for ((name, station), last) in names.iter().zip(&hosts).zip(1..) {
                    mesh.edge(name, &station.host, "").address(&format!("10.99.{number}.{last}"));
                }
                mesh.community(&format!("site{number}"), &[&names[0], &names[1]]);
                (class, premises, hosts, names)
            })
            .collect();
        let daemons = mesh.up_all();
        for daemon in &daemons[3..] {
            wait_until(Duration::from_secs(20), "a relay", || daemon.status().has_session("hub.connector0"));
        }
        for (number, (class, _, [one, other], names)) in (1..).zip(&sites) {
            assert_eq!(ping(&one.host, &format!("10.99.{number}.2"), 3).lost(), 0, "{class:?}");
            let daemon = daemons.iter().find(|daemon| daemon.name() == names[0]).expect("it runs");
            wait_until(Duration::from_secs(10), "inside", || {
                let _ = ping(&one.host, &format!("10.99.{number}.2"), 1);
                daemon
                    .status()
                    .peer(&names[1])
                    .path()
                    .is_some_and(|path| other.addresses(Family::V4).contains(&path.ip()))
            });
        }
    });
}
