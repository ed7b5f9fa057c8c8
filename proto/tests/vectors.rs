//! The test vectors of `docs/wire.md`, computed anew: the page and the code cannot drift apart.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::fmt::Write as _;
use std::net::SocketAddr;

use proto::handshake::{CookieSecret, Identity, Initiated, Mac1, Offer, Received};
use proto::id::{MeshId, PeerId, PresharedKey, PublicKey, SecretKey, SessionIndex};
use proto::lan::Token;
use proto::member::derived_address;
use proto::session::Session;
use proto::time::Instant;
use proto::wire::{
    Beacon, CONTROL_LANE, Capabilities, Control, Flags, Initiation, MessageType, Response, Suite, Suites,
};

const BEGIN: &str = "<!-- vectors: begin -->\n```text\n";
const END: &str = "```\n<!-- vectors: end -->";

/// What the data datagrams hold.
const PACKET: &[u8] = b"an inner packet";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The block as the page should have it: `name = hex`, one a line.
fn vectors() -> String {
    let mut out = String::new();
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(out, "{name} = {value}");
    };
    let mesh = MeshId::from_name("lab");
    let psk: PresharedKey = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=".parse().unwrap();
    let (secret_i, secret_r) = (SecretKey::from_bytes([0x11; 32]), SecretKey::from_bytes([0x22; 32]));
    let initiator = Identity::new(secret_i, mesh, psk.clone());
    let responder = Identity::new(secret_r, mesh, psk.clone());
    line("mesh_name", "\"lab\"");
    line("mesh_id", &hex(&mesh.0));
    line("psk", &hex(psk.as_bytes()));
    line("initiator_private", &hex(initiator.secret.as_bytes()));
    line("initiator_public", &hex(&initiator.public.0));
    line("responder_private", &hex(responder.secret.as_bytes()));
    line("responder_public", &hex(&responder.public.0));
    line("initiator_address", &derived_address(&mesh, &initiator.public).to_string());

    let offer = Offer {
        suites: Suites::DEFAULT,
        capabilities: Capabilities(Capabilities::COAL.0 | Capabilities::CSUM_PARTIAL.0 | Capabilities::FAST_AES.0),
        lanes: 1,
    };
    let (index_i, index_r) = (SessionIndex(0x0403_0201), SessionIndex(0x0807_0605));
    let (state, mut initiation) =
        Initiated::start(&initiator, &responder.public, index_i, 1_700_000_000_000_000_000, offer, [0x33; 32]).unwrap();
    let mac1 = Mac1::new(&responder.public);
    let initiation_mac1 = mac1.append(&mut initiation, None);
    line("initiator_ephemeral_public", &hex(&initiation[8..40]));
    line("timestamp", "1700000000000000000");
    line("initiation", &hex(&initiation));

    let secret = CookieSecret::new([0x44; 32], Instant::ORIGIN);
    let source: SocketAddr = "192.0.2.1:6374".parse().unwrap();
    let reply = secret.reply(&mac1, &initiation, source, [0x55; 16]).unwrap();
    line("cookie_secret", &hex(&[0x44; 32]));
    line("cookie_source", &source.to_string());
    line("cookie_reply", &hex(&reply.to_bytes()));
    let cookie = mac1.open_cookie(&reply, &initiation_mac1).unwrap();
    let mut with_cookie = initiation[..initiation.len() - 32].to_vec();
    mac1.append(&mut with_cookie, Some(&cookie));
    line("initiation_mac2_with_cookie", &hex(&with_cookie[with_cookie.len() - 16..]));

    let received = Received::open(&responder, &Initiation::parse(&initiation).unwrap(), [0x66; 32]).unwrap();
    let (agreed_r, mut response) = received.respond(index_r, offer).unwrap();
    Mac1::new(&initiator.public).append(&mut response, None);
    line("response", &hex(&response));
    let agreed_i = state.accept(&Response::parse(&response).unwrap()).ok().unwrap();
    assert_eq!(agreed_i.keys.send, agreed_r.keys.receive);
    line("suite", "AES-256-GCM");
    line("key_initiator_to_responder", &hex(&*agreed_i.keys.send));
    line("key_responder_to_initiator", &hex(&*agreed_i.keys.receive));

    let session = Session::new(PeerId(0), (index_i, index_r), &agreed_i, true).unwrap();
    let mut control = session.claim(CONTROL_LANE).unwrap();
    let keepalive = control.seal_vec(MessageType::Control, Flags::default(), &[]).unwrap();
    line("control_keepalive", &hex(&keepalive));
    let probe = Control::Probe { token: 0x0807_0605_0403_0201 }.to_bytes();
    let probe = control.seal_vec(MessageType::Control, Flags::default(), &probe).unwrap();
    line("control_probe", &hex(&probe));
    let data = session.claim(0).unwrap().seal_vec(MessageType::Data, Flags::CSUM_PARTIAL, PACKET).unwrap();
    line("data_plaintext", &hex(PACKET));
    line("data", &hex(&data));
    for suite in Suite::ALL.into_iter().filter(|suite| *suite != agreed_r.suite) {
        for (name, value) in suite_vectors(suite, &initiator, &responder) {
            line(&format!("{}_{name}", suite.name().replace('-', "_")), &hex(&value));
        }
    }
    for (name, value) in beacon_vectors(mesh, initiator.public) {
        line(name, &value);
    }
    out
}

/// A token and its key, a short one and its key, and a beacon of `sender` under the former.
fn beacon_vectors(mesh: MeshId, sender: PublicKey) -> [(&'static str, String); 7] {
    let (good, short) = ("000102030405060708090a0b0c0d0e0f", "1b1bb567");
    let key_of = |text: &str| text.parse::<Token>().unwrap().key(&mesh).unwrap();
    let addresses = ["192.0.2.1:6374", "[2001:db8::1]:7000"].map(|text| text.parse().unwrap()).to_vec();
    let beacon = Beacon { mesh, sender, timestamp: 1_700_000_000_000, sequence: 5, port: 6374, addresses };
    let (key, salt) = (key_of(good), [0x77; 16]);
    [
        ("token", format!("{good:?}")),
        ("token_key", hex(key.as_bytes())),
        ("short_token", format!("{short:?}")),
        ("short_token_key", hex(key_of(short).as_bytes())),
        ("beacon_salt", hex(&salt)),
        ("beacon_plaintext", hex(&beacon.to_bytes())),
        ("beacon", hex(&key.seal(&beacon, salt).unwrap())),
    ]
}

/// What the same handshake gives where both sides offer one other suite: the initiator's key, as long as the suite's keys
/// are, and the same packet under it.
fn suite_vectors(suite: Suite, initiator: &Identity, responder: &Identity) -> [(&'static str, Vec<u8>); 2] {
    let offer = Offer { suites: Suites::of(&[suite]), capabilities: Capabilities::default(), lanes: 1 };
    let indices = (SessionIndex(0x0403_0201), SessionIndex(0x0807_0605));
    let (state, mut initiation) =
        Initiated::start(initiator, &responder.public, indices.0, 1_700_000_000_000_000_000, offer, [0x33; 32])
            .unwrap();
    Mac1::new(&responder.public).append(&mut initiation, None);
    let received = Received::open(responder, &Initiation::parse(&initiation).unwrap(), [0x66; 32]).unwrap();
    let (_, mut response) = received.respond(indices.1, offer).unwrap();
    Mac1::new(&initiator.public).append(&mut response, None);
    let agreed = state.accept(&Response::parse(&response).unwrap()).ok().unwrap();
    let len = if suite == Suite::ChaCha20Poly1305 { 32 } else { 16 };
    let session = Session::new(PeerId(0), indices, &agreed, true).unwrap();
    let data = session.claim(0).unwrap().seal_vec(MessageType::Data, Flags::CSUM_PARTIAL, PACKET).unwrap();
    [("key_initiator_to_responder", agreed.keys.send[..len].to_vec()), ("data", data)]
}

#[test]
fn the_vectors_in_the_wire_format_page_are_what_the_code_computes() {
    let page = include_str!("../../docs/wire.md");
    let block = page.split_once(BEGIN).and_then(|(_, rest)| rest.split_once(END)).map(|(block, _)| block);
    let expected = vectors();
    assert_eq!(block, Some(expected.as_str()), "docs/wire.md should have:\n{BEGIN}{expected}{END}");
}
