//! Small and quick: from `meshd up` to the first ping, and the memory and CPU time of an idle mesh of 1,000 and of 10,000 peers.

use std::time::Duration;

use netns_tests::site::edge;
use netns_tests::{Family, Host, Lab, Mesh, Site, figure, in_lab, observe, ping, process, wait_until};

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

/// A mesh of `large.node0` in `host` and `peers` others that do not run, all in one community.
fn large_mesh(lab: &Lab, host: &Host, peers: usize) -> Mesh {
    let mut mesh = Mesh::new(lab, "large");
    mesh.log_level = "info".to_owned();
    for number in 0..=peers {
        let (high, low) = (number / 250, number % 250 + 1);
        let public = format!("198.18.{high}.{low}");
        mesh.edge(&format!("large.node{number}"), host, &public).address(&format!("10.99.{high}.{low}"));
    }
    let names: Vec<String> = mesh.endpoints.iter().map(|endpoint| endpoint.name.clone()).collect();
    mesh.community("everyone", &names.iter().map(String::as_str).collect::<Vec<_>>());
    mesh
}

/// Resident memory in bytes and CPU time in ticks of 10 ms that a daemon with idle peers takes in five seconds.
fn idle(lab: &Lab, peers: usize) -> (u64, u64) {
    let host = lab.host(&format!("with{peers}"));
    lab.plug(&host, &lab.switch(&format!("lan{peers}")), &["198.18.0.1/15"]);
    let mesh = large_mesh(lab, &host, peers);
    let daemon = mesh.up("large.node0");
    figure(&format!(
        "`meshd up` to the first answer with {peers} peers: {} ms",
        daemon.started().elapsed().as_millis()
    ));
    // What the start sets off in the kernel comes back as news within the first second.
    observe(Duration::from_secs(1));
    let before = process::cpu_ticks(daemon.pid());
    observe(Duration::from_secs(5));
    let ticks = process::cpu_ticks(daemon.pid()) - before;
    let resident = process::resident_kib(daemon.pid()) * 1024;
    assert_eq!(daemon.status().peers().len(), peers);
    (resident, ticks)
}

#[test]
fn an_idle_mesh_of_1000_configured_peers_takes_under_15_mb_and_no_measurable_cpu() {
    in_lab(|lab| {
        let (resident, ticks) = idle(lab, 1000);
        figure(&format!(
            "1,000 idle peers: {} KiB resident (wanted: under 15 MB), {ticks} ticks of 10 ms in 5 s",
            resident / 1024
        ));
        assert!(resident < 15_000_000, "{resident} bytes resident");
        assert!(ticks <= 2, "{ticks} ticks of 10 ms in 5 s of doing nothing");
    });
}

#[test]
fn an_idle_mesh_of_10000_configured_peers_takes_under_a_kilobyte_of_each_and_no_measurable_cpu() {
    in_lab(|lab| {
        let ((few, _), (many, ticks)) = (idle(lab, 1), idle(lab, 10_000));
        let each = many.saturating_sub(few) / 9_999;
        figure(&format!(
            "10,000 idle peers: {} KiB resident, {} with one: {each} bytes each (wanted: under 1,000); \
             {ticks} ticks of 10 ms in 5 s",
            many / 1024,
            few / 1024
        ));
        assert!(each < 1_000, "{each} bytes per configured peer");
        assert!(ticks <= 2, "{ticks} ticks of 10 ms in 5 s of doing nothing");
    });
}
