//! Small and quick: from `meshd up` to the first ping, and the memory and CPU time of an idle mesh of 1,000 peers.

use std::time::Duration;

use netns_tests::site::edge;
use netns_tests::{Family, Mesh, Site, figure, in_lab, observe, ping, process, wait_until};

#[test]
fn the_first_ping_succeeds_soon_after_up() {
    in_lab(|lab| {
        let site = Site::new(lab, 2).with_members(1..=2);
        let _two = site.mesh.up(&edge(2));
        for _ in 0..5 {
            let one = site.mesh.spawn(&edge(1));
            wait_until(Duration::from_secs(3), "the first ping", || {
                ping(site.edge_host(1), &site.address(2, Family::V4), 1).received == 1
            });
            figure(&format!(
                "`meshd up` to the first ping: {} ms (wanted: under 500)",
                one.started().elapsed().as_millis()
            ));
            one.stop();
        }
    });
}

#[test]
fn an_idle_mesh_of_1000_configured_peers_takes_under_15_mb_and_no_measurable_cpu() {
    in_lab(|lab| {
        let host = lab.host("one");
        lab.plug(&host, &lab.switch("lan"), &["192.0.2.1/16"]);
        let mut mesh = Mesh::new(lab, "large");
        mesh.log_level = "info".to_owned();
        for number in 0..=1000 {
            let (high, low) = (number / 250, number % 250 + 1);
            let public = format!("192.0.{}.{low}", 2 + high);
            mesh.edge(&format!("large.node{number}"), &host, &public).address(&format!("10.99.{high}.{low}"));
        }
        let names: Vec<String> = mesh.endpoints.iter().map(|endpoint| endpoint.name.clone()).collect();
        mesh.community("everyone", &names.iter().map(String::as_str).collect::<Vec<_>>());
        let daemon = mesh.up("large.node0");
        assert_eq!(daemon.status().peers().len(), 1000);
        let pid = daemon.pid();
        let before = process::cpu_ticks(pid);
        observe(Duration::from_secs(5));
        let (ticks, resident) = (process::cpu_ticks(pid) - before, process::resident_kib(pid));
        figure(&format!(
            "1,000 idle peers: {resident} KiB resident (wanted: under 15 MB), {ticks} ticks of 10 ms in 5 s"
        ));
        assert!(resident * 1024 < 15_000_000, "{resident} KiB resident");
        assert!(ticks <= 2, "{ticks} ticks of 10 ms in 5 s of doing nothing");
    });
}
