//! What operators and other programs do to a running daemon: it goes on, or ends and says why, and leaves nothing behind.

use std::time::Duration;

use netns_tests::site::edge;
use netns_tests::{Family, Lab, Site, Snapshot, in_lab, ping, wait_until};

fn pair(lab: &Lab) -> Site {
    Site::new(lab, 2).with_members(1..=2)
}

#[test]
fn rules_routes_and_addresses_that_others_remove_are_back_within_3_s() {
    in_lab(|lab| {
        let site = pair(lab);
        let (host, target) = (site.edge_host(1), site.address(2, Family::V4));
        let (_one, _two) = (site.mesh.up(&edge(1)), site.mesh.up(&edge(2)));
        assert_eq!(ping(host, &target, 2).lost(), 0);
        let before = Snapshot::of(host);
        for removal in [
            "ip rule del priority 6374",
            "ip -6 rule del priority 6374",
            "ip route flush table 6374",
            "ip -6 route flush table 6374",
            "ip address flush dev mesh0",
            "ip link set mesh0 down",
        ] {
            host.ok(removal);
            if removal.ends_with("down") {
                host.ok("ip link set mesh0 up");
            }
            wait_until(Duration::from_secs(3), removal, || before.differences(&Snapshot::of(host)).is_empty());
            assert_eq!(ping(host, &target, 2).lost(), 0, "after {removal}");
        }
    });
}
