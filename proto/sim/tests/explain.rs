//! Why packets get through, or do not: asked of a node, which asks others.
#![allow(clippy::unwrap_used, clippy::panic, reason = "what the tests share is part of the tests")]

use std::time::Duration;

use proto::event::Event;
use proto::explain::{Cause, Explanation, Heard};
use proto::id::{EndpointName, MeshId, PublicKey};
use proto::member::{Kind, Members};
use proto::node::Inquiry;
use proto::wire::{KeyView, MachineView, PolicyView, RouteView, SessionView};
use sim::link::Link;
use sim::world::World;

struct Site {
    world: World,
    connector: EndpointName,
    one: EndpointName,
    two: EndpointName,
}

/// Two edges in a community, one without, and their connector, in the order of their mesh addresses; nothing runs yet.
fn site(seed: u64) -> Site {
    let mut world = World::new(seed, Link::GOOD);
    let connector = world.add_endpoint("site.connector", Kind::Connector);
    let one = world.add_endpoint("site.edge1", Kind::Edge);
    let two = world.add_endpoint("site.edge2", Kind::Edge);
    world.add_endpoint("site.edge3", Kind::Edge);
    world.add_community("edges", &[one.clone(), two.clone()]);
    Site { world, connector, one, two }
}

impl Site {
    fn start(&mut self, name: &EndpointName, change: impl FnOnce(&mut Members)) {
        let mut members = self.world.members.clone();
        change(&mut members);
        self.world.start_with(name, &members);
    }

    fn start_others(&mut self, but: &EndpointName) {
        let all = [self.connector.clone(), self.one.clone(), self.two.clone()];
        all.iter().filter(|name| *name != but).for_each(|name| self.world.start(name));
    }

    fn why(&mut self, at: &EndpointName, address: &str, from: Option<&EndpointName>) -> Explanation {
        let now = self.world.now();
        let from = from.map(|name| self.world.peer(at, name));
        let mut inquiry = Inquiry::new(address.parse().unwrap(), from, now);
        for _ in 0..200 {
            let now = self.world.now();
            let told = self.world.host(at).node.explain(&mut inquiry, MachineView::Good, now);
            if told.is_final {
                return told;
            }
            self.world.step(at);
            self.world.run_for(Duration::from_millis(100));
        }
        panic!("no end to it");
    }

    /// Begins so many explanations, and waits for none.
    fn ask(&mut self, at: &EndpointName, address: &str, from: Option<&EndpointName>, count: usize) {
        let (now, from) = (self.world.now(), from.map(|name| self.world.peer(at, name)));
        for _ in 0..count {
            let mut inquiry = Inquiry::new(address.parse().unwrap(), from, now);
            let _ = self.world.host(at).node.explain(&mut inquiry, MachineView::Good, now);
        }
        self.world.step(at);
    }

    /// How often a member was asked and had not been asked too much.
    fn asked(&mut self, at: &EndpointName) -> usize {
        let is_asked = |(_, event): &&(_, Event)| matches!(event, Event::WhyAsked { .. });
        self.world.host(at).events.iter().filter(is_asked).count()
    }

    fn key_of<'a>(members: &'a mut Members, name: &EndpointName) -> &'a mut PublicKey {
        &mut members.endpoints.iter_mut().find(|endpoint| endpoint.name == *name).unwrap().public_key
    }
}

#[test]
fn a_packet_that_gets_through_is_told_with_its_path_and_what_the_receiver_says() {
    let mut site = site(1);
    site.world.start_all();
    let told = site.why(&site.one.clone(), "10.99.0.3", None);
    assert_eq!(told.cause(), Cause::ReachableDirect);
    let (near, far) = (told.near.view().unwrap(), told.far.view().unwrap());
    assert_eq!((near.policy, near.session), (PolicyView::Community, SessionView::Up));
    assert_eq!((far.policy, far.route), (PolicyView::Community, RouteView::Own));
    assert!(told.rtt().is_some() && !told.is_narrow());
}

#[test]
fn what_the_own_records_decide_is_told_at_once_without_a_datagram() {
    let mut site = site(2);
    site.world.start_all();
    let one = site.one.clone();
    for (address, cause) in
        [("10.99.0.4", Cause::NoCommunity), ("10.99.0.99", Cause::Unannounced), ("10.99.0.2", Cause::OwnAddress)]
    {
        assert_eq!(site.why(&one, address, None).cause(), cause, "{address}");
    }
    assert!(site.why(&one, "10.99.0.99", None).nearest.unwrap().0.to_string().starts_with("10.99.0."));
    assert!(site.world.wire.is_empty());
}

#[test]
fn a_wrong_key_in_the_own_records_is_told_by_the_connector_of_the_site() {
    let mut site = site(3);
    let (one, two) = (site.one.clone(), site.two.clone());
    site.start(&one, |members| *Site::key_of(members, &two) = PublicKey([7; 32]));
    site.start_others(&one);
    let told = site.why(&one, "10.99.0.3", None);
    assert_eq!(told.cause(), Cause::PeerKeyDiffers);
    assert_eq!(told.helper.unwrap().near.view().unwrap().key, KeyView::Differs);
}

#[test]
fn a_wrong_key_in_the_receivers_records_is_told_by_the_receiver_through_the_connector() {
    let mut site = site(4);
    let (one, two) = (site.one.clone(), site.two.clone());
    site.start(&two, |members| *Site::key_of(members, &one) = PublicKey([7; 32]));
    site.start_others(&two);
    let told = site.why(&one, "10.99.0.3", None);
    assert_eq!(told.cause(), Cause::OwnKeyDiffers);
    assert_eq!(told.helper.unwrap().far.unwrap().key, KeyView::Differs);
}

#[test]
fn a_receiver_whose_mesh_file_has_no_common_community_says_so_through_the_connector() {
    let mut site = site(5);
    let (one, two) = (site.one.clone(), site.two.clone());
    site.start(&two, |members| members.communities.clear());
    site.start_others(&two);
    assert_eq!(site.why(&one, "10.99.0.3", None).cause(), Cause::DeniedThere);
}

#[test]
fn a_receiver_that_is_down_is_told_from_one_that_nobody_could_be_asked_about() {
    let mut site = site(6);
    let (one, connector) = (site.one.clone(), site.connector.clone());
    site.world.start(&one);
    site.world.start(&connector);
    assert_eq!(site.why(&one, "10.99.0.3", None).cause(), Cause::PeerDown);
    site.world.kill(&connector);
    site.world.run_for(Duration::from_secs(200));
    assert_eq!(site.why(&one, "10.99.0.3", None).cause(), Cause::Unanswered);
}

#[test]
fn another_mesh_name_is_told_where_the_others_handshakes_come_in() {
    let mut site = site(7);
    let (one, two) = (site.one.clone(), site.two.clone());
    site.start(&one, |members| members.mesh = MeshId::from_name("elsewhere"));
    site.world.start(&two);
    assert_eq!(site.why(&one, "10.99.0.3", None).cause(), Cause::Unanswered);
    assert_eq!(site.why(&two, "10.99.0.2", None).cause(), Cause::MeshNameDiffers);
    assert_eq!(site.why(&one, "10.99.0.3", None).cause(), Cause::MeshNameDiffers);
}

#[test]
fn another_member_is_asked_about_its_own_packets_and_asks_the_receiver() {
    let mut site = site(8);
    site.world.start_all();
    let (one, two, connector) = (site.one.clone(), site.two.clone(), site.connector.clone());
    let told = site.why(&connector, "10.99.0.3", Some(&one));
    assert_eq!(told.cause(), Cause::ReachableDirect);
    assert_eq!(told.far.view().unwrap().policy, PolicyView::Community);
    assert_eq!(site.why(&connector, "10.99.0.4", Some(&one)).cause(), Cause::NoCommunity);
    assert_eq!(site.why(&connector, "10.99.0.77", Some(&one)).cause(), Cause::Unannounced);
    site.world.kill(&two);
    assert!(!site.why(&connector, "10.99.0.3", Some(&one)).cause().is_good());
    site.world.kill(&one);
    site.world.run_for(Duration::from_secs(200));
    assert_eq!(site.why(&connector, "10.99.0.3", Some(&one)).cause(), Cause::SenderUnreached);
}

#[test]
fn a_member_that_policy_keeps_away_learns_nothing_of_third_ones() {
    let mut site = site(9);
    let (one, connector) = (site.one.clone(), site.connector.clone());
    // By its own picture the edge may talk to a connector of another site, which relays and so has a session with it.
    let other = site.world.add_endpoint("other.connector", Kind::Connector);
    site.start(&one, |members| {
        members
            .communities
            .push(proto::member::Community { name: "lie".into(), members: vec![one.clone(), other.clone()] });
    });
    site.world.start(&connector);
    site.world.start(&other);
    let told = site.why(&one, "10.99.0.1", Some(&other));
    assert_eq!(
        told.near.view().map(|view| (view.route, view.session)),
        Some((RouteView::Withheld, SessionView::Untold))
    );
    assert_eq!((told.cause(), told.far), (Cause::SenderWithholds, Heard::NotAsked));
}

#[test]
fn who_asks_without_end_is_answered_a_few_times() {
    let mut site = site(10);
    site.world.start_all();
    let (one, two) = (site.one.clone(), site.two.clone());
    for _ in 0..30 {
        let now = site.world.now();
        let mut inquiry = Inquiry::new("10.99.0.3".parse().unwrap(), None, now);
        let _ = site.world.host(&one).node.explain(&mut inquiry, MachineView::Good, now);
        site.world.step(&one);
        site.world.run_for(Duration::from_millis(30));
    }
    site.world.run_for(Duration::from_secs(1));
    let asked = site.asked(&two);
    assert!((8..=12).contains(&asked), "{asked}");
}

#[test]
fn a_question_that_waits_for_a_peer_is_not_asked_of_who_has_its_number_later() {
    let mut site = site(11);
    let four = site.world.add_endpoint("site.edge4", Kind::Edge);
    let (one, two) = (site.one.clone(), site.two.clone());
    site.world.members.communities[0].members.push(four.clone());
    let whole = site.world.members.clone();
    let without = |names: &[&EndpointName]| {
        let mut members = whole.clone();
        members.endpoints.retain(|endpoint| !names.contains(&&endpoint.name));
        members.communities[0].members.retain(|name| !names.contains(&name));
        members
    };
    site.world.start_with(&one, &without(&[&four]));
    site.world.start(&four);
    let now = site.world.now();
    let number = site.world.peer(&one, &two);
    let mut inquiry = Inquiry::new("10.99.0.3".parse().unwrap(), None, now);
    let node = &mut site.world.host(&one).node;
    assert!(!node.explain(&mut inquiry, MachineView::Good, now).is_final, "nobody runs there");
    assert_eq!(node.handle_registry(&without(&[&four, &two]), now), [number]);
    node.handle_registry(&without(&[&two]), now);
    assert_eq!(node.peer_id(&four), Some(number));
    site.world.step(&one);
    site.world.send(&one, &four, 1);
    site.world.run_for(Duration::from_secs(2));
    assert_eq!(site.world.numbers(&four), [1]);
    let is_question = |(_, event): &(_, Event)| matches!(event, Event::WhyAsked { .. });
    assert!(!site.world.host(&four).events.iter().any(is_question));
}

#[test]
fn a_new_session_does_not_give_a_member_new_questions() {
    let mut site = site(11);
    site.world.start_all();
    let (one, two) = (site.one.clone(), site.two.clone());
    for _ in 0..4 {
        site.ask(&one, "10.99.0.3", None, 12);
        site.world.run_for(Duration::from_secs(1));
        let now = site.world.now();
        site.world.host(&one).node.handle_shutdown(now);
        site.world.step(&one);
        site.world.run_for(Duration::from_secs(1));
    }
    let asked = site.asked(&two);
    assert!((8..=17).contains(&asked), "{asked} in 8 s");
}

#[test]
fn any_number_of_explanations_one_after_the_other_finds_its_answers() {
    let mut site = site(12);
    let mut all = vec![site.one.clone()];
    all.extend((10..50).map(|n| site.world.add_endpoint(&format!("site.till{n}"), Kind::Edge)));
    site.world.add_community("tills", &all);
    site.world.start_all();
    let one = site.one.clone();
    let began = site.world.now();
    for till in &all[1..] {
        let address = site.world.inner(till).to_string();
        let told = site.why(&one, &address, None);
        assert!(told.far.view().is_some(), "{till}: {:?}", told.far);
    }
    assert!(site.world.now() - began < Duration::from_secs(20), "they are not forgotten by time alone");
}

#[test]
fn what_peers_have_a_node_ask_takes_no_place_of_its_own_questions_and_one_peer_none_of_another() {
    let mut site = site(13);
    let connector = site.connector.clone();
    let asking: Vec<_> = (0..6).map(|n| site.world.add_endpoint(&format!("site.till{n}"), Kind::Edge)).collect();
    site.world.start_all();
    let two = site.two.clone();
    site.world.kill(&two);
    for till in &asking {
        site.ask(till, "10.99.0.3", Some(&connector), 8);
    }
    site.world.run_for(Duration::from_millis(500));
    assert!(site.asked(&connector) >= 40, "{}", site.asked(&connector));
    let told = site.why(&connector, "10.99.0.2", None);
    assert!(told.far.view().is_some(), "{:?}", told.far);
}

#[test]
fn who_has_too_many_questions_is_told_so_and_not_that_nobody_answers() {
    let mut site = site(14);
    let (one, connector) = (site.one.clone(), site.connector.clone());
    site.world.start(&one);
    site.ask(&one, "10.99.0.3", None, 32);
    assert_eq!(site.why(&one, "10.99.0.1", None).cause(), Cause::TooManyQuestions);
    assert_eq!(site.why(&one, "10.99.0.3", Some(&connector)).near, Heard::Crowded);
}
