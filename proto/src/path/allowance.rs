//! What may be sent to places that a peer only tells of. Whoever names a victim's address as its own, however often and in however
//! many sessions, has us send it this much and no more.

use crate::bucket::{Bucket, Rate};
use crate::time::Instant;

/// Datagrams to such places for one peer: as many at once as eight candidates get after a start, then two a second, so at most
/// 216 in a minute. A peer that was met gets as many as it needs, for what answered inside the session is there.
const RATE: Rate = Rate { per_second: 2, burst: 96 };

/// The allowance of one peer. It outlives sessions, so that a new one does not fill it.
#[derive(Debug, Default)]
pub(crate) struct Allowance(Option<Box<Bucket>>);

impl Allowance {
    /// Takes one datagram; `false` where there is none.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        self.0.get_or_insert_with(|| Box::new(Bucket::new(RATE, now))).take(RATE, now)
    }
}
