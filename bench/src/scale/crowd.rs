//! The crowd: one process that is a thousand peers of a daemon, or a storm of their handshakes, on one UDP socket.
//!
//! It shares the machine's cores with what is measured, so it does little: handshakes are paced below the daemon's measure of
//! load and done before the measuring starts, a storm's messages are made beforehand and sent again and again, and whatever
//! comes back to a storm is left in the socket.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Write as _};
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use proto::handshake::{Identity, Initiated, Mac1, Offer};
use proto::id::{MeshId, PeerId, PresharedKey, PublicKey, SecretKey, SessionIndex};
use proto::session::{Session, TxLane};
use proto::wire::{CONTROL_LANE, Capabilities, Flags, Initiation, MessageType, NOISE_INITIATION_LEN, Response, Suites};
use serde::{Deserialize, Serialize};

use crate::Outcome;

/// What it writes to stdout when the measuring may start.
pub(super) const READY: &str = "ready";

/// Handshakes per second: a daemon that sees more than 200 asks for proofs of address.
const PACE: u32 = 150;

/// From an initiation without an answer to the next.
const RETRY: Duration = Duration::from_secs(1);

/// How long all sessions may take beyond their pace.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often each session says that it is alive.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// Messages of a storm that are made; then they repeat.
const POOL: u32 = 5_000;

/// How often a storm sends its share.
const BURST: Duration = Duration::from_millis(2);

/// What a crowd is to do.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Plan {
    pub(super) mesh: String,
    /// Where the daemon listens, and its public key.
    pub(super) daemon: SocketAddr,
    pub(super) key: String,
    pub(super) members: u32,
    pub(super) role: Role,
}

/// What it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Role {
    /// A session with each member.
    Sessions,
    /// Initiations by members, this many per second, as after a failure of the network.
    Members(u32),
    /// Initiations that do not decrypt, with the right mac1, this many per second.
    Forgeries(u32),
}

/// The key of member `number`.
pub(super) fn secret(number: u32) -> SecretKey {
    let mut bytes = [0x5a; 32];
    // Not the first byte: X25519 clears its low bits.
    bytes[4..8].copy_from_slice(&number.to_le_bytes());
    SecretKey::from_bytes(bytes)
}

/// Follows the plan in a file until it is killed.
pub(crate) fn run(plan: Option<&Path>) -> Outcome {
    let plan: Plan = serde_json::from_slice(&fs::read(plan.ok_or("a crowd needs a --plan")?)?)?;
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect(plan.daemon)?;
    let crowd = Crowd { key: plan.key.parse()?, mesh: MeshId::from_name(&plan.mesh), socket };
    match plan.role {
        Role::Sessions => crowd.sessions(plan.members),
        Role::Members(rate) => crowd.storm(rate, |number| Ok(crowd.initiation(number % plan.members)?.1)),
        Role::Forgeries(rate) => crowd.storm(rate, |number| Ok(crowd.forgery(number))),
    }
}

struct Crowd {
    key: PublicKey,
    mesh: MeshId,
    socket: UdpSocket,
}

/// A member without a session.
struct Waiting {
    state: Option<Initiated>,
    due: Instant,
}

impl Crowd {
    /// An initiation by a member; its index is its number.
    fn initiation(&self, number: u32) -> Outcome<(Initiated, Vec<u8>)> {
        let identity = Identity::new(secret(number), self.mesh, PresharedKey::NONE);
        let offer = Offer { suites: Suites::DEFAULT, capabilities: Capabilities::default(), lanes: 1 };
        let timestamp = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos())?;
        // Nobody listens who could make use of what can be guessed.
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&timestamp.to_le_bytes());
        seed[8..12].copy_from_slice(&number.to_le_bytes());
        let (state, mut message) =
            Initiated::start(&identity, &self.key, SessionIndex(number), timestamp, offer, seed)?;
        Mac1::new(&self.key).append(&mut message, None);
        Ok((state, message))
    }

    /// Something that only decryption tells from an initiation.
    fn forgery(&self, number: u32) -> Vec<u8> {
        let mut noise = [0xa5; NOISE_INITIATION_LEN];
        noise[..4].copy_from_slice(&number.to_le_bytes());
        let mut message = Initiation { sender: SessionIndex(number), noise: &noise }.to_bytes();
        Mac1::new(&self.key).append(&mut message, None);
        message
    }

    /// Makes a session for each member, and keeps them.
    fn sessions(&self, members: u32) -> Outcome {
        self.socket.set_read_timeout(Some(Duration::from_secs(1) / PACE))?;
        let started = Instant::now();
        let due = |number: u32| started + Duration::from_secs(1) * number / PACE;
        let mut waiting: HashMap<u32, Waiting> =
            (0..members).map(|number| (number, Waiting { state: None, due: due(number) })).collect();
        let mut lanes = Vec::new();
        while !waiting.is_empty() {
            if Instant::now() > due(members) + PATIENCE {
                return Err(format!("{} of {members} members got no session", waiting.len()).into());
            }
            for (number, member) in waiting.iter_mut().filter(|(_, member)| member.due <= Instant::now()) {
                let (state, message) = self.initiation(*number)?;
                (member.state, member.due) = (Some(state), Instant::now() + RETRY);
                self.socket.send(&message)?;
            }
            lanes.extend(self.answer(&mut waiting)?);
        }
        say_ready()?;
        self.keep(&mut lanes)
    }

    /// Takes a response, and confirms its session.
    fn answer(&self, waiting: &mut HashMap<u32, Waiting>) -> Outcome<Option<TxLane>> {
        let mut buffer = [0; 2048];
        let len = match self.socket.recv(&mut buffer) {
            Ok(len) => len,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        // Keepalives of sessions that stand come here too.
        let Ok(response) = Response::parse(buffer.get(..len).unwrap_or_default()) else { return Ok(None) };
        let number = response.receiver.0;
        let Some(state) = waiting.get_mut(&number).and_then(|member| member.state.take()) else { return Ok(None) };
        let Ok(agreement) = state.accept(&response) else { return Ok(None) };
        waiting.remove(&number);
        let session = Session::new(PeerId(number), (response.receiver, response.sender), &agreement, true);
        let lane = session.as_ref().and_then(|session: &Arc<Session>| session.claim(CONTROL_LANE));
        let mut lane = lane.ok_or("a suite that was not offered")?;
        self.keepalive(&mut lane)?;
        Ok(Some(lane))
    }

    fn keepalive(&self, lane: &mut TxLane) -> Outcome {
        self.socket.send(&lane.seal_vec(MessageType::Control, Flags::default(), &[])?)?;
        Ok(())
    }

    /// Says for each session in turn that it is alive; what comes in stays in the socket.
    fn keep(&self, lanes: &mut [TxLane]) -> Outcome {
        let pause = KEEPALIVE / u32::try_from(lanes.len().max(1))?;
        loop {
            for lane in &mut *lanes {
                self.keepalive(lane)?;
                thread::sleep(pause);
            }
        }
    }

    fn storm(&self, rate: u32, make: impl Fn(u32) -> Outcome<Vec<u8>>) -> Outcome {
        let pool = (0..POOL.min(rate.max(1))).map(make).collect::<Outcome<Vec<_>>>()?;
        say_ready()?;
        let (started, mut sent) = (Instant::now(), 0_u128);
        let mut messages = pool.iter().cycle();
        loop {
            let due = started.elapsed().as_nanos() * u128::from(rate) / 1_000_000_000;
            for message in messages.by_ref().take(usize::try_from(due - sent)?) {
                match self.socket.send(message) {
                    // Where nobody listens any more, the measuring is over and the end is near.
                    Ok(_) | Err(_) => sent += 1,
                }
            }
            thread::sleep(BURST);
        }
    }
}

fn say_ready() -> Outcome {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{READY}")?;
    Ok(stdout.flush()?)
}
