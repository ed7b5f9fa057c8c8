//! A session: the keys and counters of one finished handshake.
//!
//! Sending is owned: each lane's [`TxLane`] exists once, is not `Clone`, and counts its own nonces, so that no two seals can
//! share one. Receiving is shared: any thread may open any lane, behind that lane's lock, taken once per run of datagrams.

mod aead;
mod replay;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

pub use aead::{AeadError, AeadKey, AesBackend, has_fast_aes, supported_suites};
pub use replay::{ReplayWindow, WINDOW};

use crate::handshake::Agreement;
use crate::id::{PeerId, SessionIndex};
use crate::wire::{
    CONTROL_LANE, Capabilities, DataHeader, Flags, HEADER_LEN, MAX_LANES, MessageType, OVERHEAD, Suite, TAG_LEN,
};

/// Messages that one lane seals before the core is asked for a new session. With up to four lanes the sum stays at 2^28,
/// the confidentiality bound that RFC 9001 §B.1.1 derives for AES-GCM with packets of this size.
pub const REKEY_AFTER_MESSAGES: u64 = 1 << 26;

/// Messages after which a lane seals nothing any more: well below 2^56, where the counter would run into the lane byte,
/// and at the point where a stuck core would begin to wear the key out.
pub const REJECT_AFTER_MESSAGES: u64 = 1 << 30;

/// Keys and receive windows of one handshake.
pub struct Session {
    /// Whose session it is.
    pub peer: PeerId,
    /// Our name for it: what the peer writes into its datagrams.
    pub local: SessionIndex,
    /// The peer's name for it: what we write into ours.
    pub remote: SessionIndex,
    /// The suite in use.
    pub suite: Suite,
    /// What the peer can receive.
    pub capabilities: Capabilities,
    seal: AeadKey,
    open: AeadKey,
    /// One place per lane that the peer announced; the last is the control lane's.
    windows: Box<[LaneWindow]>,
    /// Lanes that were claimed, one bit each.
    claimed: [AtomicU64; 4],
    confirmed: AtomicBool,
    used: AtomicBool,
}

/// The window of one lane, made by the lane's first authentic datagram: a peer pays in memory for the lanes that it uses, not
/// for those that it announces, and who only makes datagrams up pays for none.
type LaneWindow = OnceLock<Box<Mutex<ReplayWindow>>>;

/// Why a datagram did not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Its counter was seen, or is older than the window.
    #[error("the counter was used before or is too old")]
    Replayed,
    /// It is not what the peer sealed.
    #[error("authentication failed")]
    Authentication,
}

/// A lane that has sealed all it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this lane has sealed as many messages as its key allows")]
pub struct LaneExhausted;

impl Session {
    /// The session of an agreement. An initiator's is confirmed from the start; a responder's once the initiator used it.
    #[must_use]
    pub fn new(
        peer: PeerId,
        (local, remote): (SessionIndex, SessionIndex),
        agreement: &Agreement,
        confirmed: bool,
    ) -> Option<Arc<Self>> {
        let lanes = usize::from(agreement.lanes.min(MAX_LANES)) + 1;
        Some(Arc::new(Self {
            peer,
            local,
            remote,
            suite: agreement.suite,
            capabilities: agreement.capabilities,
            seal: AeadKey::new(agreement.suite, &agreement.keys.send)?,
            open: AeadKey::new(agreement.suite, &agreement.keys.receive)?,
            windows: (0..lanes).map(|_| LaneWindow::new()).collect(),
            claimed: Default::default(),
            confirmed: AtomicBool::new(confirmed),
            used: AtomicBool::new(false),
        }))
    }

    /// Whether both sides are known to hold the keys.
    #[must_use]
    pub fn is_confirmed(&self) -> bool {
        self.confirmed.load(Ordering::Relaxed)
    }

    /// Whether a datagram of the peer's was opened on it, which proves that the peer holds the keys. A worker knows this
    /// before the core does.
    #[inline]
    #[must_use]
    pub fn is_used(&self) -> bool {
        self.used.load(Ordering::Relaxed)
    }

    /// Records that the peer used the session; returns whether that was news.
    pub(crate) fn confirm(&self) -> bool {
        !self.confirmed.swap(true, Ordering::Relaxed)
    }

    /// Hands out a lane: to each caller another one, never the same twice. `None` if it was handed out before.
    #[must_use]
    pub fn claim(self: &Arc<Self>, lane: u8) -> Option<TxLane> {
        let bit = 1 << (lane % 64);
        let word = self.claimed.get(usize::from(lane / 64))?;
        let taken = word.fetch_or(bit, Ordering::Relaxed) & bit != 0;
        (!taken).then(|| TxLane { session: Arc::clone(self), lane, next: 0 })
    }

    /// Locks a lane of the peer for opening; `None` if the peer announced no such lane.
    #[must_use]
    pub fn lane(&self, lane: u8) -> Option<RxLane<'_>> {
        let last = self.windows.len().checked_sub(1)?;
        let slot = if lane == CONTROL_LANE { last } else { usize::from(lane) };
        if lane != CONTROL_LANE && slot >= last {
            return None;
        }
        let window = self.windows.get(slot)?;
        Some(RxLane { session: self, window, locked: window.get().map(|made| lock(made)) })
    }
}

// A poisoned window is still a window: marks are made after authentication only.
fn lock(window: &Mutex<ReplayWindow>) -> MutexGuard<'_, ReplayWindow> {
    window.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A lane of the peer, locked: opens its datagrams.
pub struct RxLane<'s> {
    session: &'s Session,
    window: &'s LaneWindow,
    /// `None` before the lane's first authentic datagram.
    locked: Option<MutexGuard<'s, ReplayWindow>>,
}

impl RxLane<'_> {
    /// Opens a datagram in place, header first in `datagram`; returns the length of the plaintext, which starts at
    /// [`HEADER_LEN`]. Its counter counts as used only if it was authentic.
    ///
    /// # Errors
    /// [`OpenError`]; the bytes after the header are then undefined.
    #[inline]
    pub fn open(&mut self, header: &DataHeader, datagram: &mut [u8]) -> Result<usize, OpenError> {
        let sequence = sequence(header.counter);
        if self.locked.as_ref().is_some_and(|window| !window.is_new(sequence)) {
            return Err(OpenError::Replayed);
        }
        let len = self.session.open.open(header.counter, datagram).map_err(|AeadError| OpenError::Authentication)?;
        match &mut self.locked {
            Some(window) => window.mark(sequence),
            None => self.begin(sequence)?,
        }
        if !self.session.is_used() {
            self.session.used.store(true, Ordering::Relaxed);
        }
        Ok(len)
    }

    /// Makes the window and marks the first counter, unless another thread has seen it since this lane was taken.
    #[cold]
    fn begin(&mut self, sequence: u64) -> Result<(), OpenError> {
        let window = self.locked.insert(lock(self.window.get_or_init(Box::default)));
        if !window.is_new(sequence) {
            return Err(OpenError::Replayed);
        }
        window.mark(sequence);
        Ok(())
    }

    /// Whether `counter` is the newest that this lane has seen.
    #[must_use]
    pub fn is_newest(&self, counter: u64) -> bool {
        self.locked.as_ref().and_then(|window| window.newest()) == Some(sequence(counter))
    }
}

/// The sequence number in a counter, without the lane byte.
const fn sequence(counter: u64) -> u64 {
    counter & ((1 << 56) - 1)
}

/// The sole right to seal on one lane of a session.
///
/// Not `Clone`, made once per lane by [`Session::claim`]; sealing takes `&mut self`. That is the proof that no nonce is used
/// twice: there is no other counter for this lane.
pub struct TxLane {
    session: Arc<Session>,
    lane: u8,
    next: u64,
}

impl TxLane {
    /// The session that the lane belongs to.
    #[must_use]
    pub fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// Whether the core should be asked for a new session.
    #[must_use]
    pub const fn is_worn(&self) -> bool {
        self.next >= REKEY_AFTER_MESSAGES
    }

    /// The counter of the next datagram, the lane in its top byte.
    #[must_use]
    pub const fn next_counter(&self) -> u64 {
        ((self.lane as u64) << 56) | self.next
    }

    /// Seals a datagram in place: writes the header to the first [`HEADER_LEN`] bytes, encrypts what follows up to the last
    /// [`TAG_LEN`] bytes, and writes the tag there.
    ///
    /// # Errors
    /// [`LaneExhausted`]; nothing was written then. A slice without room for header and tag is refused likewise.
    #[inline]
    pub fn seal(&mut self, kind: MessageType, flags: Flags, datagram: &mut [u8]) -> Result<(), LaneExhausted> {
        if self.next >= REJECT_AFTER_MESSAGES || datagram.len() < OVERHEAD {
            return Err(LaneExhausted);
        }
        let counter = (u64::from(self.lane) << 56) | self.next;
        self.next += 1;
        let header = DataHeader { kind, flags, lane: self.lane, receiver: self.session.remote, counter };
        if let Some(bytes) = datagram.first_chunk_mut::<HEADER_LEN>() {
            *bytes = header.to_bytes();
        }
        self.session.seal.seal(counter, datagram).map_err(|AeadError| LaneExhausted)
    }

    /// A datagram around `plaintext`, for the slow path.
    ///
    /// # Errors
    /// [`LaneExhausted`].
    pub fn seal_vec(&mut self, kind: MessageType, flags: Flags, plaintext: &[u8]) -> Result<Vec<u8>, LaneExhausted> {
        let mut datagram = Vec::with_capacity(plaintext.len() + OVERHEAD);
        datagram.extend([0; HEADER_LEN]);
        datagram.extend(plaintext);
        datagram.extend([0; TAG_LEN]);
        self.seal(kind, flags, &mut datagram)?;
        Ok(datagram)
    }
}

#[cfg(test)]
mod tests;
