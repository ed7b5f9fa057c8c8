//! The target of LAN discovery: what strangers and members may send to the group.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use proto::id::{MeshId, PublicKey};
use proto::lan::{BeaconKey, Heard, Lan, LanEvent, MAX_NEIGHBOURS, MAX_SIGHTINGS, Settings, WallTime};
use proto::time::Instant;
use proto::wire::{BEACON_HEADER, BEACON_LEN, BEACON_PLAINTEXT_LEN, MAX_BEACON_ADDRESSES};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf;

use crate::input::Input;

const KEY: [u8; 32] = [7; 32];
const OWN: PublicKey = PublicKey([2; 32]);
const WALL: u64 = 1_700_000_000_000;
const TTL: Duration = Duration::from_secs(20);

/// Any bytes, beacons of a member that says anything in them, old ones again and damaged ones, from anywhere and at any
/// time. Nothing panics; no beacon counts twice; strangers change nothing; what is believed is bounded, in time too; and
/// every candidate may be the address of a machine.
///
/// # Panics
/// Where that is not so.
pub fn beacon(bytes: &[u8]) {
    let input = &mut Input::new(bytes);
    let mut group = Group::new(input.pick(&[0, 0, 0, -700_000, 700_000]));
    while !input.is_empty() {
        group.step(input);
    }
    group.silence();
}

/// A node, and what it was sent.
struct Group {
    lan: Lan,
    millis: u64,
    /// By which the node's clock is wrong.
    skew: i64,
    sent: Vec<Vec<u8>>,
    counted: BTreeSet<Vec<u8>>,
    believed: BTreeSet<PublicKey>,
}

impl Group {
    fn new(skew: i64) -> Self {
        let (mesh, interval) = (MeshId::from_name("lab"), Duration::from_secs(5));
        let key = BeaconKey::from_bytes(KEY);
        let settings = Settings { key, public_key: OWN, mesh, port: 6374, interval, ttl: TTL };
        let lan = Lan::new(settings, Arc::default(), [1; 32], Instant::ORIGIN);
        Self { lan, millis: 0, skew, sent: Vec::new(), counted: BTreeSet::new(), believed: BTreeSet::new() }
    }

    fn now(&self) -> Instant {
        Instant::from_nanos(self.millis * 1_000_000)
    }

    fn step(&mut self, input: &mut Input<'_>) {
        self.millis += input.pick(&[0, 1, 300, 3_000, 30_000, 700_000]);
        self.lan.handle_timeout(self.now());
        self.follow_events();
        let datagram = self.draw(input);
        let is_authentic = self.sent.contains(&datagram);
        let (source, interface) = (any_address(input), u32::from(input.byte()));
        let wall = WallTime((WALL + self.millis).saturating_add_signed(self.skew));
        let heard = self.lan.handle_beacon(&datagram, source, interface, self.now(), wall);
        self.follow_events();
        if let Ok(Some(heard)) = heard {
            assert!(is_authentic, "a stranger was heard");
            assert!(self.counted.insert(datagram), "a beacon counted twice");
            assert_usable(&heard);
        }
        self.check();
    }

    /// The next datagram: new and authentic, sent before, damaged, or anything.
    fn draw(&mut self, input: &mut Input<'_>) -> Vec<u8> {
        let before = self.sent.get(input.below(self.sent.len().max(1))).cloned();
        match (input.below(4), before) {
            (0, Some(datagram)) => datagram,
            (1, Some(mut datagram)) => {
                datagram[input.below(BEACON_LEN)] ^= input.byte() | 1;
                datagram
            }
            (2, _) => input.bytes(input.clone().pick(&[0, 1, 20, 255, BEACON_LEN, 257])),
            _ => {
                let datagram = seal(&self.plaintext(input), self.sent.len());
                self.sent.push(datagram.clone());
                datagram
            }
        }
    }

    /// What a member may say: the fixed part near the truth, the addresses anything.
    fn plaintext(&self, input: &mut Input<'_>) -> [u8; BEACON_PLAINTEXT_LEN] {
        let mut plaintext = [0; BEACON_PLAINTEXT_LEN];
        let mesh = if input.one_in(16) { MeshId([0; 32]) } else { MeshId::from_name("lab") };
        let skew = input.pick(&[0, 0, 0, 1, -1, -2_500, 600_000, -600_000, -i64::try_from(WALL).unwrap()]);
        plaintext[..32].copy_from_slice(&mesh.0);
        plaintext[32..64].fill(input.byte());
        plaintext[64..72].copy_from_slice(&(WALL + self.millis).saturating_add_signed(skew).to_le_bytes());
        plaintext[72] = input.byte();
        plaintext[80..82].copy_from_slice(&input.pick(&[6374u16, 1, 0]).to_le_bytes());
        plaintext[82] = input.byte();
        plaintext[83] = input.pick(&[0, 0, 1, 2, 7, 8, 255]);
        let drawn = 18 * usize::from(plaintext[83]).min(MAX_BEACON_ADDRESSES);
        for entry in plaintext[84..84 + drawn].chunks_mut(18) {
            let address = any_address(input);
            let ip = match address.ip() {
                IpAddr::V4(v4) => v4.to_ipv6_mapped(),
                IpAddr::V6(v6) => v6,
            };
            entry[..16].copy_from_slice(&ip.octets());
            entry[16..].copy_from_slice(&address.port().to_le_bytes());
        }
        plaintext
    }

    /// Found and lost take turns for each neighbour.
    fn follow_events(&mut self) {
        while let Some(event) = self.lan.poll_event() {
            let is_in_turn = match event {
                LanEvent::Found { key, .. } => self.believed.insert(key),
                LanEvent::Lost { key } => self.believed.remove(&key),
            };
            assert!(is_in_turn, "{event:?}");
        }
    }

    fn check(&self) {
        let now = self.now();
        for neighbour in self.lan.neighbours() {
            assert_ne!(neighbour.key, OWN, "it is its own neighbour");
            assert!((1..=MAX_SIGHTINGS).contains(&neighbour.sightings.len()));
            assert!(neighbour.further.len() <= MAX_BEACON_ADDRESSES);
            assert!(
                neighbour.sightings.iter().all(|sighting| now < sighting.heard + TTL),
                "it is believed for too long"
            );
        }
        let keys: BTreeSet<_> = self.lan.neighbours().map(|neighbour| neighbour.key).collect();
        assert!(keys == self.believed && keys.len() <= MAX_NEIGHBOURS, "events tell of another set");
    }

    /// When nobody says anything any more, everybody is lost.
    fn silence(mut self) {
        self.millis += 20_000;
        self.lan.handle_timeout(self.now());
        self.follow_events();
        assert_eq!(self.lan.neighbours().count(), 0);
        assert!(self.believed.is_empty());
    }
}

/// Addresses of machines and of none.
fn any_address(input: &mut Input<'_>) -> SocketAddr {
    let ip = input.pick(&[
        "192.0.2.1",
        "192.0.2.2",
        "fe80::1",
        "2001:db8::1",
        "::ffff:192.0.2.1",
        "127.0.0.1",
        "::1",
        "0.0.0.0",
        "::",
        "224.0.0.1",
        "ff02::1",
        "255.255.255.255",
        "::ffff:127.0.0.1",
    ]);
    SocketAddr::new(ip.parse().unwrap(), input.pick(&[6374, 1, 0]))
}

fn assert_usable(heard: &Heard) {
    let unique: BTreeSet<_> = heard.candidates.iter().collect();
    assert!(unique.len() == heard.candidates.len() && (1..=8).contains(&unique.len()));
    for address in &heard.candidates {
        let ip = address.ip();
        assert_eq!(ip, ip.to_canonical());
        let nobody =
            ip.is_loopback() || ip.is_multicast() || ip.is_unspecified() || ip.to_string() == "255.255.255.255";
        assert!(!nobody && address.port() != 0, "{address}");
    }
}

/// Seals as the page on the wire format says, not as the code does.
fn seal(plaintext: &[u8; BEACON_PLAINTEXT_LEN], number: usize) -> Vec<u8> {
    let mut salt = [0; 16];
    salt[..8].copy_from_slice(&number.to_le_bytes());
    let mut key = [0; 32];
    let pseudorandom = hkdf::Salt::new(hkdf::HKDF_SHA256, &salt).extract(&KEY);
    pseudorandom.expand(&[b"meshd beacon v1"], hkdf::HKDF_SHA256).unwrap().fill(&mut key).unwrap();
    let key = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &key).unwrap());
    let mut sealed = plaintext.to_vec();
    let nonce = Nonce::assume_unique_for_key([0; 12]);
    key.seal_in_place_append_tag(nonce, Aad::from(BEACON_HEADER), &mut sealed).unwrap();
    [&BEACON_HEADER[..], &salt, &sealed].concat()
}
