//! The STUN requests under way, as the workers see them.

use std::sync::atomic::{AtomicU64, Ordering};

use super::MAX_SERVERS;
use crate::wire::TransactionId;

/// Which STUN answers are awaited: one writer, [`Stun`](super::Stun), and the workers, which drop all others at once. Nobody
/// who has not seen a request of ours gets a datagram past it, nor anybody while there is none.
#[derive(Debug, Default)]
pub struct Awaited([AtomicU64; MAX_SERVERS]);

impl Awaited {
    /// Whether an answer with this id is awaited. One in 2^60 others passes too: the core looks at the whole id and at the source.
    #[must_use]
    pub fn has(&self, id: TransactionId) -> bool {
        let mark = mark(id);
        self.0.iter().any(|place| place.load(Ordering::Relaxed) == mark)
    }

    /// Makes these the awaited ones; of more than [`MAX_SERVERS`] the first.
    pub(super) fn set(&self, ids: impl Iterator<Item = TransactionId>) {
        let marks = ids.map(mark).chain(std::iter::repeat(0));
        for (place, mark) in self.0.iter().zip(marks) {
            place.store(mark, Ordering::Relaxed);
        }
    }
}

/// Eight bytes of an id, which are random; zero means none.
fn mark(TransactionId([a, b, c, d, e, f, g, h, ..]): TransactionId) -> u64 {
    u64::from_le_bytes([a, b, c, d, e, f, g, h]).max(1)
}
