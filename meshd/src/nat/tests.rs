//! The claims of this folder, against gateways and servers of the test's own in network namespaces.

mod gateway;
mod lan;

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use proto::data::Socket as _;
use proto::data::batch::RecvBatch;
use proto::member::{Host, PublicAddress};
use proto::nat::Awaited;
use tokio::net::UdpSocket;

use super::status::GatewayStatus;
use super::*;
use crate::dataplane::device::namespace::{in_namespace, ip};
use crate::dataplane::socket::{SocketOptions, UdpSocket as WorkerSocket};
use gateway::{Gateway, Manner};
use lan::Lan;

use Manner::{FromElsewhere, Grants, Lies, Refuses, Silent, Unsupported};

/// An address that the whole net could reach, were it not kept for documents (RFC 5737).
const PUBLIC: [u8; 4] = [203, 0, 113, 9];

/// Longer than anything here takes, on any machine.
const LIMIT: Duration = Duration::from_secs(20);

/// Short waits, and after a failure none of this test any more.
const PACE: Pace = Pace {
    lifetime: Duration::from_secs(7_200),
    soonest: Duration::from_millis(200),
    first_wait: Duration::from_millis(100),
    tries: 3,
    patience: LIMIT,
    backoff: (Duration::from_secs(600), Duration::from_secs(600)),
};

fn run(body: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(LIMIT * 3, body).await.unwrap() });
}

fn start(stun_servers: Vec<PublicAddress>) -> (Nat, WorkerSocket) {
    let socket = WorkerSocket::bind(0, 1, &SocketOptions::default()).unwrap().pop().unwrap();
    let port =
        Port { sender: socket.try_clone_sender().unwrap(), awaited: Arc::<Awaited>::default(), clock: Clock::start() };
    let mapped_port = stun_servers.is_empty().then(|| NonZeroU16::new(6374).unwrap());
    (Nat::start(NatSettings { mapped_port, stun_servers, pace: PACE, seed: [7; 32] }, port), socket)
}

/// A host with a default route to a gateway of these manners, asking it.
fn behind(pcp: Manner, nat_pmp: Manner, upnp: Manner) -> (Lan, Gateway, Nat) {
    let lan = Lan::new();
    ip("route add default via 192.168.1.1");
    let gateway = Gateway::start(&lan);
    gateway.set(pcp, nat_pmp, upnp);
    let (nat, _) = start(vec![]);
    (lan, gateway, nat)
}

async fn next(nat: &mut Nat) -> NatEvent {
    tokio::time::timeout(LIMIT, nat.next()).await.unwrap()
}

fn mapped(protocol: Protocol, external: &str, lifetime: u64) -> NatEvent {
    NatEvent::Mapped { protocol, external: external.parse().unwrap(), lifetime: Duration::from_secs(lifetime) }
}

fn unmapped(external: &str) -> NatEvent {
    NatEvent::Unmapped { external: external.parse().unwrap() }
}

/// Waits until what is shown of the one gateway is as wanted.
async fn shown(nat: &Nat, wanted: impl Fn(&GatewayStatus) -> bool) -> GatewayStatus {
    let mut status = nat.gateways.status.clone();
    let found = status.wait_for(|status| status.gateways.first().is_some_and(&wanted));
    let status = tokio::time::timeout(LIMIT, found).await.unwrap().unwrap().clone();
    assert_eq!(status.gateways.len(), 1);
    status.gateways[0].clone()
}

#[test]
fn a_pcp_mapping_is_renewed_under_its_nonce_and_deleted_at_a_stop() {
    in_namespace(|| {
        run(async {
            let (_lan, gateway, mut nat) = behind(Grants(PUBLIC, 1), Silent, Silent);
            for _ in 0..3 {
                assert_eq!(next(&mut nat).await, mapped(Protocol::Pcp, "203.0.113.9:7000", 1));
            }
            let status = shown(&nat, |_| true).await;
            assert_eq!((status.protocol, status.external), (Some(Protocol::Pcp), "203.0.113.9:7000".parse().ok()));
            assert!(status.is_public && status.interface == "eth0" && status.last_error.is_none());
            nat.stop().await;
            let seen = gateway.seen();
            assert!(seen.iter().all(|request| request[24..36] == seen[0][24..36]), "one nonce");
            assert_eq!(seen[0][42..44], 6_374u16.to_be_bytes(), "the same port is asked for first");
            assert_eq!(seen[1][42..44], 7_000u16.to_be_bytes(), "then the one that was granted");
            assert_eq!(seen.last().unwrap()[4..8], [0; 4], "deleted");
        });
    });
}

#[test]
fn a_gateway_that_knows_only_nat_pmp_is_asked_by_that_and_not_by_pcp_again() {
    in_namespace(|| {
        run(async {
            let (_lan, gateway, mut nat) = behind(Unsupported, Grants(PUBLIC, 1), Silent);
            for _ in 0..2 {
                assert_eq!(next(&mut nat).await, mapped(Protocol::NatPmp, "203.0.113.9:7001", 1));
            }
            nat.stop().await;
            let seen = gateway.seen();
            assert_eq!(seen.iter().filter(|request| request[0] == 2).count(), 1);
            assert_eq!(seen.last().unwrap()[..], [0, 1, 0, 0, 0x18, 0xe6, 0, 0, 0, 0, 0, 0], "deleted");
        });
    });
}

#[test]
fn upnp_is_used_where_nothing_else_answers_also_if_the_port_is_taken_and_leases_are_not_known() {
    in_namespace(|| {
        run(async {
            let (_lan, gateway, mut nat) = behind(Silent, Unsupported, Grants(PUBLIC, 0));
            let NatEvent::Mapped { protocol: Protocol::Igd, external, .. } = next(&mut nat).await else {
                panic!("IGD")
            };
            assert!(external.ip() == std::net::IpAddr::from(PUBLIC) && external.port() >= 0xc000);
            nat.stop().await;
            let actions = gateway.actions().into_iter().filter(|action| action.contains("PortMapping"));
            let (actions, port) = (actions.collect::<Vec<_>>(), external.port());
            let expected = [
                "AddPortMapping 6374 6374 192.168.1.2 7200".to_owned(),
                format!("AddPortMapping {port} 6374 192.168.1.2 7200"),
                format!("AddPortMapping {port} 6374 192.168.1.2 0"),
                format!("DeletePortMapping {port}"),
            ];
            assert_eq!(actions, expected);
        });
    });
}

#[test]
fn refusals_are_told_and_nothing_is_asked_again_until_something_changes() {
    in_namespace(|| {
        run(async {
            let (_lan, gateway, mut nat) = behind(Refuses, Refuses, Refuses);
            let status = shown(&nat, |shown| shown.last_error.is_some()).await;
            let error =
                "PCP: refused (not authorized); NAT-PMP: refused (not authorized); UPnP-IGD: refused (UPnP error 606)";
            assert_eq!((status.last_error.as_deref(), status.external), (Some(error), None));
            let asked = gateway.seen().len();
            tokio::time::sleep(PACE.soonest * 5).await;
            assert_eq!(gateway.seen().len(), asked, "it waits for minutes");
            gateway.set(Grants(PUBLIC, 3_600), Silent, Silent);
            nat.ask_anew();
            assert_eq!(next(&mut nat).await, mapped(Protocol::Pcp, "203.0.113.9:7000", 3_600));
            assert!(shown(&nat, |_| true).await.last_error.is_none());
        });
    });
}

#[test]
fn answers_to_other_questions_noise_and_answers_of_others_are_not_believed() {
    in_namespace(|| {
        run(async {
            for (pcp, nat_pmp, upnp) in [
                (Lies, Lies, Lies),
                (FromElsewhere(PUBLIC, 600), FromElsewhere(PUBLIC, 600), FromElsewhere(PUBLIC, 600)),
            ] {
                let (_lan, gateway, mut nat) = behind(pcp, nat_pmp, upnp);
                let status = shown(&nat, |shown| shown.last_error.is_some()).await;
                assert_eq!(
                    status.last_error.as_deref(),
                    Some("PCP: no answer; NAT-PMP: no answer; UPnP-IGD: no answer")
                );
                assert!(nat.gateways.events.try_recv().is_err() && !gateway.seen().is_empty());
                ip("link del eth0");
            }
        });
    });
}

#[test]
fn an_address_behind_another_nat_is_shown_and_not_told() {
    in_namespace(|| {
        run(async {
            for address in [[100, 64, 1, 2], [10, 0, 0, 9]] {
                let (_lan, _gateway, mut nat) = behind(Grants(address, 3_600), Silent, Silent);
                let status = shown(&nat, |shown| shown.external.is_some()).await;
                assert_eq!(status.external, Some(SocketAddr::from((address, 7_000))));
                assert!(!status.is_public && nat.gateways.events.try_recv().is_err());
                ip("link del eth0");
            }
        });
    });
}

#[test]
fn a_gateway_that_falls_silent_loses_its_mapping_when_that_has_ended() {
    in_namespace(|| {
        run(async {
            let (_lan, gateway, mut nat) = behind(Grants(PUBLIC, 2), Silent, Silent);
            assert_eq!(next(&mut nat).await, mapped(Protocol::Pcp, "203.0.113.9:7000", 2));
            gateway.set(Silent, Silent, Silent);
            assert_eq!(next(&mut nat).await, unmapped("203.0.113.9:7000"));
            assert!(shown(&nat, |shown| shown.external.is_none()).await.last_error.is_some());
        });
    });
}

#[test]
fn a_gateway_that_is_none_any_more_is_forgotten_and_a_new_one_asked_at_once() {
    in_namespace(|| {
        run(async {
            let (_lan, gateway, mut nat) = behind(Grants(PUBLIC, 3_600), Silent, Silent);
            assert_eq!(next(&mut nat).await, mapped(Protocol::Pcp, "203.0.113.9:7000", 3_600));
            ip("route del default");
            nat.ask_anew();
            assert_eq!(next(&mut nat).await, unmapped("203.0.113.9:7000"));
            // The mapping is not deleted: who is no gateway is not asked, and the address may come back.
            assert_eq!(gateway.seen().len(), 1);
            ip("route add default via 192.168.1.1");
            nat.ask_anew();
            assert_eq!(next(&mut nat).await, mapped(Protocol::Pcp, "203.0.113.9:7000", 3_600));
            assert_eq!(nat.status().gateways.len(), 1);
        });
    });
}

#[test]
fn a_router_with_a_link_local_address_is_asked_to_let_ipv6_in() {
    in_namespace(|| {
        run(async {
            let lan = Lan::new();
            ip("-6 route add default via fe80::1 dev eth0");
            let gateway = Gateway::start(&lan);
            gateway.set(Grants(PUBLIC, 3_600), Silent, Silent);
            let (mut nat, _) = start(vec![]);
            assert_eq!(next(&mut nat).await, mapped(Protocol::Pcp, "[2001:db8::2]:7000", 3_600));
            nat.stop().await;
            assert_eq!(gateway.seen().len(), 2);
        });
    });
}

#[test]
fn a_stop_waits_no_longer_than_its_limit_for_a_silent_gateway() {
    in_namespace(|| {
        run(async {
            let (_lan, gateway, mut nat) = behind(Grants(PUBLIC, 3_600), Silent, Silent);
            next(&mut nat).await;
            gateway.set(Silent, Silent, Silent);
            let asked = gateway.seen().len();
            nat.stop().await;
            assert!(gateway.seen().len() > asked, "it was asked to delete the mapping");
        });
    });
}

#[test]
fn stun_servers_tell_our_address_from_the_port_that_workers_send_from() {
    in_namespace(|| {
        run(async {
            ip("link set lo up");
            let server = UdpSocket::bind("127.0.0.1:3478").await.unwrap();
            let address = SocketAddr::from((PUBLIC, 4_000));
            tokio::spawn(gateway::serve_stun(server, address));
            let server = |host, port| PublicAddress { host, port };
            let silent = server(Host::Ip([127, 0, 0, 2].into()), 3478);
            let servers = vec![server(Host::Ip([127, 0, 0, 1].into()), 3478), silent];
            let (mut nat, mut socket) = start(servers);
            for _ in 0..2 {
                let mut batch = RecvBatch::new();
                let event = loop {
                    // In the daemon workers do so, and punt what is awaited.
                    let count = socket.recv(&mut batch);
                    let (metas, memory) = batch.messages();
                    for (slot, meta) in metas.iter().take(count).enumerate() {
                        let start = RecvBatch::slot_start(slot);
                        nat.handle_answer(memory[start..start + meta.len].into(), meta.source);
                    }
                    tokio::select! {
                        event = nat.next() => break event,
                        () = tokio::time::sleep(Duration::from_millis(5)) => {}
                    }
                };
                assert_eq!(event, NatEvent::Reflexive { server: ([127, 0, 0, 1], 3478).into(), address });
                let status = nat.status();
                assert!(status.gateways.is_empty(), "no gateway is asked unless told to");
                nat.ask_anew();
            }
        });
    });
}
