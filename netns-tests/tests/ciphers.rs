//! Each pair of nodes uses the fastest cipher that both offer, and a node that opts in to one more loses no peer.

use std::time::Duration;

use netns_tests::site::edge;
use netns_tests::{Family, Site, in_lab, ping, wait_until};
use proto::session::{AesBackend, has_fast_aes, supported_suites};
use proto::wire::Suite;

const OPTED_IN: &str = "[dataplane]\ncipher = [\"auto\", \"aegis-128x2\"]\n";

/// What two nodes with the default offer use on this CPU.
fn usual() -> Suite {
    if has_fast_aes() { Suite::Aes256Gcm } else { Suite::ChaCha20Poly1305 }
}

#[test]
fn two_that_opt_in_to_a_cipher_use_it_and_both_talk_to_a_third_as_before() {
    in_lab(|lab| {
        let mut site = Site::new(lab, 3).with_members(1..=3);
        let mut daemons = Vec::new();
        for (number, settings) in [(1, OPTED_IN), (2, OPTED_IN), (3, "")] {
            site.mesh.settings = settings.to_owned();
            daemons.push(site.mesh.up(&edge(number)));
        }
        let fast = if supported_suites().contains(Suite::Aegis128X2) { Suite::Aegis128X2 } else { usual() };
        for (from, to, suite) in [(1, 2, fast), (1, 3, usual()), (3, 2, usual())] {
            for family in Family::BOTH {
                assert_eq!(ping(site.edge_host(from), &site.address(to, family), 3).lost(), 0, "{from} to {to}");
            }
            for (here, there) in [(from, to), (to, from)] {
                let daemon = &daemons[here - 1];
                assert_eq!(
                    daemon.status().peer(&edge(there)).cipher().as_deref(),
                    Some(suite.name()),
                    "{here}, {there}"
                );
                let shown = daemon.meshd(&["status", &edge(there)]).text();
                assert!(shown.contains(suite.name()), "{shown}");
            }
        }
        for daemon in &daemons {
            assert_eq!(daemon.status().aes_backend(), AesBackend::detect().name());
            assert_eq!(daemon.status().drops("authentication_failed"), 0, "{}", daemon.name());
        }
    });
}

#[test]
fn two_without_a_cipher_in_common_do_not_talk_and_the_answering_one_says_what_both_offer() {
    in_lab(|lab| {
        let mut site = Site::new(lab, 2).with_members(1..=2);
        let mut daemons = Vec::new();
        for (number, settings) in [(1, "[dataplane]\ncipher = \"aes-128-gcm\"\n"), (2, "")] {
            site.mesh.settings = settings.to_owned();
            daemons.push(site.mesh.up(&edge(number)));
        }
        assert_eq!(ping(site.edge_host(1), &site.address(2, Family::V4), 1).received, 0);
        let said = "no cipher in common: this node offers aes-256-gcm, chacha20-poly1305, the peer aes-128-gcm";
        wait_until(Duration::from_secs(5), "edge2 says why it refuses edge1", || {
            daemons[1].status().health().iter().any(|text| text.contains(&edge(1)) && text.contains(said))
        });
        assert_eq!(daemons[1].status().peer(&edge(1)).cipher(), None);
    });
}
