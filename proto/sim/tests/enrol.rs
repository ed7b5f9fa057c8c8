//! Invitations: the key in one tells another key, once and in time, and opens nothing else.

use std::net::SocketAddr;
use std::time::Duration;

use proto::event::Event;
use proto::id::{EndpointName, PublicKey, SecretKey};
use proto::invitation::{Invited, UnixTime};
use proto::member::{Denial, Kind, Members};
use proto::stats::DropReason;
use proto::wire::EnrolAnswer;
use sim::link::Link;
use sim::world::World;

/// When simulated worlds begin, in seconds since 1970.
const BEGIN: u64 = 1_700_000_000;

struct Site {
    world: World,
    hub: EndpointName,
    edge: EndpointName,
    guest: EndpointName,
}

/// A hub with an edge, and a guest that holds an invitation for so many seconds.
fn site(seed: u64, seconds: u64) -> Site {
    let mut world = World::new(seed, Link::GOOD);
    let hub = world.add_endpoint("site.hub", Kind::Connector);
    let edge = world.add_endpoint("site.edge", Kind::Edge);
    let guest = world.add_endpoint("site.guest", Kind::Edge);
    world.add_community("all", &[hub.clone(), edge.clone(), guest.clone()]);
    world.start_all();
    let mut site = Site { world, hub, edge, guest };
    site.open(seconds);
    site
}

impl Site {
    fn without_guest(&self) -> Members {
        let mut members = self.world.members.clone();
        members.endpoints.retain(|endpoint| endpoint.name != self.guest);
        members
    }

    /// The hub knows the guest by its invitation only.
    fn open(&mut self, seconds: u64) {
        let (hub, key) = (self.hub.clone(), self.world.members.endpoints[2].public_key);
        let members = self.without_guest();
        self.world.start_with(&hub, &members);
        let invited = Invited { name: self.guest.clone(), key, until: UnixTime(BEGIN + seconds) };
        let now = self.world.now();
        self.world.host(&hub).node.handle_invitations(&[invited], UnixTime(BEGIN), now);
    }

    /// The guest asks once, in the session that is there.
    fn ask(&mut self, key: PublicKey, address: SocketAddr) {
        let (hub, guest) = (self.hub.clone(), self.guest.clone());
        let (by, now) = (self.world.peer(&guest, &hub), self.world.now());
        self.world.host(&guest).node.enrol(by, key, &[address], now);
        self.world.step(&guest);
        self.world.run_for(Duration::from_millis(20));
    }

    fn enrol(&mut self, key: PublicKey) {
        let (hub, guest) = (self.hub.clone(), self.guest.clone());
        let by = self.world.peer(&guest, &hub);
        // Once for the session, and once in it.
        for _ in 0..2 {
            let now = self.world.now();
            self.world.host(&guest).node.enrol(by, key, &[SocketAddr::from(([192, 0, 2, 9], 6374))], now);
            self.world.step(&guest);
            self.world.run_for(Duration::from_secs(1));
        }
    }

    fn answer(&mut self, key: PublicKey, answer: EnrolAnswer) {
        let (hub, guest) = (self.hub.clone(), self.guest.clone());
        let peer = self.world.peer(&hub, &guest);
        let now = self.world.now();
        self.world.host(&hub).node.answer_enrolment(peer, key, answer, now);
        self.world.step(&hub);
        self.world.run_for(Duration::from_secs(1));
    }

    fn wanted(&mut self) -> Vec<PublicKey> {
        let hub = self.hub.clone();
        let wanted =
            |(_, event): &(_, Event)| if let Event::EnrolWanted { key, .. } = event { Some(*key) } else { None };
        self.world.host(&hub).events.iter().filter_map(wanted).collect()
    }

    fn answers(&mut self) -> Vec<EnrolAnswer> {
        let guest = self.guest.clone();
        let answer = |(_, event): &(_, Event)| {
            if let Event::EnrolAnswered { answer, .. } = event { Some(*answer) } else { None }
        };
        self.world.host(&guest).events.iter().filter_map(answer).collect()
    }

    /// Types and lengths of the datagrams that went from one to the other.
    fn sent(&self, from: &EndpointName, to: &EndpointName) -> Vec<(u8, usize)> {
        let (from, to) = (self.world.home(from), self.world.home(to));
        let between = self.world.wire.iter().filter(|(_, source, target, _)| (*source, *target) == (from, to));
        between.map(|(.., datagram)| (datagram[0], datagram.len())).collect()
    }
}

fn key(byte: u8) -> PublicKey {
    SecretKey::from_bytes([byte; 32]).public_key()
}

#[test]
fn an_invitation_is_used_by_one_key_and_a_lost_answer_is_repeated() {
    let mut site = site(1, 60);
    site.enrol(key(7));
    assert_eq!(site.wanted(), [key(7)]);
    site.answer(key(7), EnrolAnswer::Accepted);
    assert_eq!(site.answers(), [EnrolAnswer::Accepted]);
    site.enrol(key(7));
    site.enrol(key(8));
    assert_eq!(site.wanted(), [key(7)], "who has used it is not asked for again");
    let mut answers = site.answers();
    answers.dedup();
    assert_eq!(answers, [EnrolAnswer::Accepted, EnrolAnswer::Used]);
}

#[test]
fn what_the_shell_refuses_may_be_tried_again() {
    let mut site = site(2, 60);
    site.enrol(key(7));
    site.answer(key(7), EnrolAnswer::Failed);
    site.enrol(key(8));
    assert_eq!((site.wanted().last(), site.answers()), (Some(&key(8)), vec![EnrolAnswer::Failed]));
}

#[test]
fn a_key_that_an_endpoint_has_is_not_enrolled() {
    let mut site = site(3, 60);
    for endpoint in [0, 1] {
        let taken = site.world.members.endpoints[endpoint].public_key;
        site.enrol(taken);
    }
    assert!(site.wanted().is_empty());
    assert!(site.answers().len() >= 2 && site.answers().iter().all(|answer| *answer == EnrolAnswer::KeyTaken));
}

#[test]
fn an_expired_invitation_opens_no_session_and_one_that_expires_in_a_session_is_void() {
    let mut late = site(4, 5);
    late.world.run_for(Duration::from_secs(5));
    late.enrol(key(7));
    let (hub, guest) = (late.hub.clone(), late.guest.clone());
    assert!(late.sent(&hub, &guest).is_empty() && late.wanted().is_empty());
    assert!(late.world.host(&hub).node.drops().get(DropReason::HandshakeNotAllowed) > 0);
    let mut site = site(5, 10);
    site.enrol(key(7));
    site.answer(key(7), EnrolAnswer::Failed);
    site.world.run_for(Duration::from_secs(10));
    site.enrol(key(7));
    assert_eq!(site.wanted(), [key(7)]);
    let mut answers = site.answers();
    answers.dedup();
    assert_eq!(answers, [EnrolAnswer::Failed, EnrolAnswer::Void]);
}

#[test]
fn the_key_of_an_invitation_opens_nothing_else() {
    let mut site = site(6, 60);
    let (hub, edge, guest) = (site.hub.clone(), site.edge.clone(), site.guest.clone());
    site.enrol(key(7));
    for number in 1..5 {
        site.world.send(&guest, &hub, number);
        site.world.send(&guest, &edge, number);
        site.world.send(&hub, &guest, number);
        site.world.run_for(Duration::from_millis(500));
    }
    let peer = site.world.peer(&guest, &hub);
    let now = site.world.now();
    site.world.host(&guest).node.probe(peer, now).unwrap();
    site.world.step(&guest);
    site.world.run_for(Duration::from_secs(2));
    assert!(site.world.numbers(&hub).is_empty() && site.world.numbers(&guest).is_empty());
    assert!(site.world.host(&hub).node.drops().get(DropReason::ForgedSource) >= 4);
    let sent = site.sent(&hub, &guest);
    assert!(
        sent.iter().all(|sent| [(2, 108), (5, 32)].contains(sent)),
        "responses and empty keepalives only: {sent:?}"
    );
    let address = site.world.inner(&guest);
    assert_eq!(site.world.host(&hub).node.route(address), None);
    let denied = site.world.peer(&hub, &guest);
    let status = site.world.host(&hub).node.peer_status(denied).unwrap();
    assert_eq!(status.permission, Err(Denial::Invited));
}

#[test]
fn after_the_enrolment_the_new_key_is_a_member_and_the_key_of_the_invitation_a_stranger() {
    let mut site = site(7, 60);
    let (hub, guest) = (site.hub.clone(), site.guest.clone());
    site.enrol(key(7));
    site.answer(key(7), EnrolAnswer::Accepted);
    let mut members = site.world.members.clone();
    members.endpoints[2].public_key = key(7);
    let now = site.world.now();
    let node = &mut site.world.host(&hub).node;
    node.handle_registry(&members, now);
    node.handle_invitations(&[], UnixTime(BEGIN), now);
    site.world.step(&hub);
    site.enrol(key(8));
    assert_eq!(site.wanted(), [key(7)]);
    assert_eq!(site.world.host(&hub).node.strangers().len(), 1);
    let peer = site.world.peer(&hub, &guest);
    let status = site.world.host(&hub).node.peer_status(peer).unwrap();
    assert!(status.permission.is_ok() && status.key == key(7));
}

#[test]
fn invitations_come_and_go_and_touch_no_member() {
    let mut site = site(8, 60);
    let (hub, edge, guest) = (site.hub.clone(), site.edge.clone(), site.guest.clone());
    let now = site.world.now();
    let known = site.world.members.endpoints[1].public_key;
    let node = &mut site.world.host(&hub).node;
    let until = UnixTime(BEGIN + 60);
    let rivals = [
        Invited { name: edge.clone(), key: key(1), until },
        Invited { name: "site.other".parse().unwrap(), key: known, until },
        Invited { name: hub.clone(), key: key(2), until },
    ];
    node.handle_invitations(&rivals, UnixTime(BEGIN), now);
    assert_eq!((node.peer_id(&guest), node.status().len()), (None, 1));
    assert!(node.peer_status(node.peer_id(&edge).unwrap()).unwrap().permission.is_ok());
}

#[test]
fn an_invitation_expires_by_the_wall_time_that_comes_with_it_and_not_by_that_of_the_nodes_start() {
    let mut site = site(9, 60);
    let (hub, guest) = (site.hub.clone(), site.guest.clone());
    let key = site.world.members.endpoints[2].public_key;
    let invited = [Invited { name: guest.clone(), key, until: UnixTime(BEGIN + 60) }];
    let now = site.world.now();
    let node = &mut site.world.host(&hub).node;
    node.handle_invitations(&invited, UnixTime(BEGIN + 60), now);
    assert_eq!(node.peer_id(&guest), None, "it has expired while the node's own clock is a minute behind");
    // The clock was a day ahead when the node began, and is right now.
    node.handle_invitations(&invited, UnixTime(BEGIN - 86_400), now);
    site.world.run_for(Duration::from_secs(3_600));
    site.enrol(self::key(7));
    assert_eq!(site.wanted(), [self::key(7)]);
}

#[test]
fn who_asks_without_end_has_the_shell_asked_a_few_times() {
    let mut site = site(10, 600);
    site.enrol(key(7));
    let before = site.wanted().len();
    for number in 0..200 {
        site.ask(key(number), SocketAddr::from(([192, 0, 2, 9], 6374)));
    }
    let asked = site.wanted().len() - before;
    assert!((4..=9).contains(&asked), "{asked} times in 4 s");
}

#[test]
fn a_refusal_is_repeated_to_the_same_key_for_a_while_and_the_shell_is_asked_anew_with_another_picture() {
    let mut site = site(11, 600);
    site.enrol(key(7));
    site.answer(key(7), EnrolAnswer::Failed);
    let before = site.wanted().len();
    site.enrol(key(7));
    assert_eq!((site.wanted().len(), site.answers()), (before, vec![EnrolAnswer::Failed; 3]));
    let (hub, guest) = (site.hub.clone(), site.guest.clone());
    let (now, unused) = (site.world.now(), site.world.members.endpoints[2].public_key);
    let invited = [Invited { name: guest, key: unused, until: UnixTime(BEGIN + 600) }];
    site.world.host(&hub).node.handle_invitations(&invited, UnixTime(BEGIN), now);
    site.enrol(key(7));
    let after = site.wanted().len();
    assert!(after > before);
    site.answer(key(7), EnrolAnswer::NotByItself);
    site.world.run_for(Duration::from_secs(10));
    site.enrol(key(7));
    assert!(site.wanted().len() > after);
}

#[test]
fn an_address_that_cannot_be_dialled_is_not_passed_on() {
    let mut site = site(12, 60);
    site.enrol(key(7));
    for address in ["192.0.2.9:0", "127.0.0.1:6374", "192.0.2.9:1"] {
        site.ask(key(8), address.parse().unwrap());
    }
    let hub = site.hub.clone();
    let addresses_of = |(_, event): &(_, Event)| {
        if let Event::EnrolWanted { key: wanted, addresses, .. } = event
            && *wanted == key(8)
        {
            Some(addresses.clone())
        } else {
            None
        }
    };
    let told: Vec<Vec<SocketAddr>> = site.world.host(&hub).events.iter().filter_map(addresses_of).collect();
    assert_eq!(told, [vec![], vec![], vec!["192.0.2.9:1".parse().unwrap()]]);
}
