//! Edges behind every kind of NAT that passes UDP, in one mesh: each reaches a connector that has a public address.

use netns_tests::nat::{Class, Internet, NatKind, Premises, Wall};
use netns_tests::{Family, Mesh, in_lab, ping};

const CONNECTOR: &str = "beijing.connector";

/// Where edges stand.
fn classes() -> Vec<Class> {
    let v4 = NatKind::ALL.into_iter().filter(|kind| kind.behaviour().is_some()).map(Class::v4);
    v4.chain([Class::v6(Wall::Open), Class::v6(Wall::Firewall)]).collect()
}

#[test]
fn an_edge_behind_any_nat_that_passes_udp_reaches_a_public_connector() {
    in_lab(|lab| {
        let (internet, mut mesh) = (Internet::new(lab), Mesh::new(lab, "demo"));
        let (connector, _link) = internet.host("connector", 1);
        mesh.connector(CONNECTOR, &connector.host, &connector.v4[0].to_string()).address("10.99.0.254");
        let in_v6 = format!("[{}]:6374", connector.v6[0]);
        mesh.endpoint_mut(CONNECTOR).public_addresses.push(in_v6);
        let premises: Vec<(String, Premises<'_>)> = (1..)
            .zip(classes())
            .map(|(number, class)| (format!("beijing.edge{number}"), internet.premises(&format!("p{number}"), class)))
            .collect();
        for (number, (name, premises)) in (1..).zip(&premises) {
            mesh.edge(name, &premises.host(&format!("edge{number}")).host, "").address(&format!("10.99.0.{number}"));
        }
        let _daemons = mesh.up_all();
        for (name, premises) in &premises {
            let edge = &mesh.endpoint(name).host;
            for family in Family::BOTH {
                let pinged = ping(edge, &mesh.address(CONNECTOR, family), 3);
                assert_eq!(pinged.lost(), 0, "{:?}, inner {family:?}", premises.class);
            }
        }
    });
}
