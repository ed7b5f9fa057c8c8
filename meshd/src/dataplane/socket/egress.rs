//! What to do with batches that the kernel does not take at once: decisions only, the calls are the caller's.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use proto::data::SocketSend;
use proto::data::batch::SendBatch;
use proto::path::Fragments;

/// How long a destination (or the whole socket) does without segmentation offload after the kernel refused it: routes
/// change, and a refusal costs one system call.
const PAUSE: Duration = Duration::from_secs(60);

/// Destinations whose pause is remembered. One more takes the place of the one that would end first.
const MAX_PAUSED: usize = 32;

/// Refusals for different destinations, with no success among them, that are enough to pause the whole socket: it is not
/// the route then.
const ENOUGH: u32 = 8;

/// One call for the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// The first `count` batches in one call, each as a whole. The answer is how many went: at least one.
    Together {
        /// How many, at least two.
        count: usize,
    },
    /// The whole first batch in one call: a single datagram, or segmentation offload.
    Whole,
    /// The datagrams of the first batch one by one, as many as go, from this one on. The answer is how many went: at least one.
    Singles {
        /// Index of the first datagram.
        from: usize,
        /// Whether they may be fragmented.
        fragments: Fragments,
    },
}

/// What happened while sending. Numbers of datagrams, where nothing else is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SendStats {
    /// Given to the kernel.
    pub(crate) datagrams: u64,
    /// Messages of more than one datagram, sent by segmentation offload.
    pub(crate) segmented: u64,
    /// Calls whose segmentation offload was refused; the datagrams went one by one.
    pub(crate) refused: u64,
    /// Calls that found the socket's buffer full.
    pub(crate) full: u64,
    /// Dropped: unreachable, forbidden, no memory.
    pub(crate) dropped: u64,
}

/// The sending side of one socket.
pub(super) struct Egress {
    gso: bool,
    paused: Vec<(SocketAddr, Instant)>,
    all_paused: Option<Instant>,
    refusals_in_a_row: u32,
    progress: Option<Progress>,
    stats: SendStats,
}

impl Egress {
    /// A side that may use segmentation offload only with `gso`.
    pub(super) fn new(gso: bool) -> Self {
        let paused = Vec::with_capacity(MAX_PAUSED);
        Self { gso, paused, all_paused: None, refusals_in_a_row: 0, progress: None, stats: SendStats::default() }
    }

    pub(super) const fn stats(&self) -> SendStats {
        self.stats
    }

    /// Counts a batch that cannot even be tried.
    pub(super) fn drop_all(&mut self, batch: &SendBatch) -> SocketSend {
        self.stats.dropped += batch.count() as u64;
        // It does not come again.
        self.progress = None;
        SocketSend::Dropped
    }

    /// Sends the first of `batches` through `kernel`, from where an earlier call with the same batch had to stop, or
    /// several of them at once.
    pub(super) fn send(
        &mut self,
        batches: &[SendBatch],
        now: impl Fn() -> Instant,
        mut kernel: impl FnMut(Request) -> io::Result<usize>,
    ) -> SocketSend {
        let together = if batches.len() > 1 { self.count_together(batches, &now) } else { 1 };
        if together > 1 {
            match with_one_retry(|| kernel(Request::Together { count: together })) {
                Ok(sent) => return self.account(batches.get(..sent).unwrap_or(batches)),
                Err(Failure::Full) => {
                    self.stats.full += 1;
                    return SocketSend::Full;
                }
                // The first has a difficulty, which it meets again when it goes alone.
                Err(Failure::Refused | Failure::TooLong | Failure::Datagram | Failure::Destination) => {}
            }
        }
        match batches.first() {
            Some(batch) if !batch.is_empty() => self.send_first(batch, now, kernel),
            Some(_) | None => SocketSend::Sent(1),
        }
    }

    fn send_first(
        &mut self,
        batch: &SendBatch,
        now: impl Fn() -> Instant,
        mut kernel: impl FnMut(Request) -> io::Result<usize>,
    ) -> SocketSend {
        if let Some(from) = self.take_progress(batch) {
            return self.send_singles(batch, from, &mut kernel);
        }
        // Rare, and not for segmentation offload: the kernel would not cut its segments.
        if batch.fragments() == Fragments::Allowed {
            return self.send_singles(batch, 0, &mut kernel);
        }
        let is_single = batch.count() == 1;
        if !is_single && !self.may_segment(batch.destination(), &now) {
            return self.send_singles(batch, 0, &mut kernel);
        }
        let Err(failure) = with_one_retry(|| kernel(Request::Whole)) else {
            return self.account(std::slice::from_ref(batch));
        };
        match failure {
            Failure::Full => {
                self.stats.full += 1;
                SocketSend::Full
            }
            // Its link has become narrower, which the core will find out too. Until then nothing need be lost.
            Failure::TooLong if is_single => self.send_singles(batch, 0, &mut kernel),
            Failure::Refused | Failure::TooLong if !is_single => {
                self.stats.refused += 1;
                let result = self.send_singles(batch, 0, &mut kernel);
                // A destination that takes nothing at all says nothing about segmentation.
                if result != SocketSend::Dropped {
                    self.pause(batch.destination(), now());
                }
                result
            }
            Failure::Refused | Failure::TooLong | Failure::Datagram | Failure::Destination => self.drop_all(batch),
        }
    }

    /// Counts batches that went as wholes.
    fn account(&mut self, batches: &[SendBatch]) -> SocketSend {
        for batch in batches {
            self.stats.datagrams += batch.count() as u64;
            if batch.count() > 1 {
                self.stats.segmented += 1;
                self.refusals_in_a_row = 0;
            }
        }
        SocketSend::Sent(batches.len())
    }

    /// How many of the first batches may go as wholes, and so in one call.
    fn count_together(&mut self, batches: &[SendBatch], now: &impl Fn() -> Instant) -> usize {
        if self.progress.is_some() {
            return 1;
        }
        let is_whole = |batch: &&SendBatch| {
            batch.fragments() == Fragments::Never && (batch.count() == 1 || self.may_segment(batch.destination(), now))
        };
        batches.iter().take_while(is_whole).count()
    }

    fn send_singles(
        &mut self,
        batch: &SendBatch,
        mut from: usize,
        kernel: &mut impl FnMut(Request) -> io::Result<usize>,
    ) -> SocketSend {
        let count = batch.count();
        let (mut has_sent, mut fragments) = (from > 0, batch.fragments());
        while from < count {
            match with_one_retry(|| kernel(Request::Singles { from, fragments })) {
                Ok(sent) => {
                    has_sent = true;
                    self.stats.datagrams += sent as u64;
                    from += sent;
                }
                Err(Failure::Full) => {
                    self.stats.full += 1;
                    self.keep_progress(batch, from);
                    return SocketSend::Full;
                }
                Err(Failure::TooLong) if fragments == Fragments::Never => fragments = Fragments::Allowed,
                Err(Failure::TooLong | Failure::Datagram) => {
                    self.stats.dropped += 1;
                    from += 1;
                }
                Err(Failure::Refused | Failure::Destination) => {
                    self.stats.dropped += (count - from) as u64;
                    from = count;
                }
            }
        }
        if has_sent { SocketSend::Sent(1) } else { SocketSend::Dropped }
    }
}

/// Why a call sent nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    /// The buffer is full: later.
    Full,
    /// Not in this form; a single datagram in no form.
    Refused,
    /// Not without fragments, or too long for any.
    TooLong,
    /// Not this datagram, but perhaps the next one.
    Datagram,
    /// Not to this destination.
    Destination,
}

fn with_one_retry(mut call: impl FnMut() -> io::Result<usize>) -> Result<usize, Failure> {
    let error = match call() {
        Ok(sent) => return Ok(sent),
        Err(error) => error,
    };
    // ECONNREFUSED tells of an earlier datagram, and hides what became of this one.
    if matches!(error.raw_os_error(), Some(libc::ECONNREFUSED | libc::EINTR)) {
        return call().map_err(|error| failure_of(&error));
    }
    Err(failure_of(&error))
}

fn failure_of(error: &io::Error) -> Failure {
    match error.raw_os_error() {
        Some(libc::EAGAIN) => Failure::Full,
        Some(libc::EMSGSIZE) => Failure::TooLong,
        // EIO: no checksum offload on the way out (before Linux 6.11), or IPsec. EINVAL: segments longer than the path's MTU
        // (EMSGSIZE on newer kernels), or too many.
        Some(libc::EIO | libc::EINVAL | libc::EOPNOTSUPP | libc::ENOPROTOOPT) => Failure::Refused,
        // EPERM: a packet filter, which may drop at random. ENOBUFS, ENOMEM: no memory; it is no `Full`, because a socket
        // whose buffer has room is writable at once, and waiting for it would spin.
        Some(libc::EPERM | libc::ENOBUFS | libc::ENOMEM) => Failure::Datagram,
        _ => Failure::Destination,
    }
}

/// How far a batch got, and by what to know it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Progress {
    destination: SocketAddr,
    len: usize,
    count: usize,
    /// Its first bytes: a data datagram's header holds a counter that never comes twice.
    head: [u8; 32],
    from: usize,
}

impl Progress {
    fn of(batch: &SendBatch, from: usize) -> Self {
        let mut head = [0; 32];
        for (to, byte) in head.iter_mut().zip(batch.bytes()) {
            *to = *byte;
        }
        Self { destination: batch.destination(), len: batch.bytes().len(), count: batch.count(), head, from }
    }
}

impl Egress {
    fn keep_progress(&mut self, batch: &SendBatch, from: usize) {
        if from > 0 {
            self.progress = Some(Progress::of(batch, from));
        }
    }

    fn take_progress(&mut self, batch: &SendBatch) -> Option<usize> {
        let progress = self.progress?;
        let is_same = progress == Progress::of(batch, progress.from);
        if is_same {
            self.progress = None;
        }
        is_same.then_some(progress.from)
    }

    fn may_segment(&mut self, destination: SocketAddr, now: &impl Fn() -> Instant) -> bool {
        if !self.gso || (self.paused.is_empty() && self.all_paused.is_none()) {
            return self.gso;
        }
        // The clock is read only while something is paused.
        let now = now();
        self.all_paused = self.all_paused.filter(|until| now < *until);
        self.paused.retain(|(_, until)| now < *until);
        self.all_paused.is_none() && !self.paused.iter().any(|(paused, _)| *paused == destination)
    }

    fn pause(&mut self, destination: SocketAddr, now: Instant) {
        self.refusals_in_a_row = self.refusals_in_a_row.saturating_add(1);
        if self.refusals_in_a_row >= ENOUGH {
            self.refusals_in_a_row = 0;
            self.paused.clear();
            self.all_paused = Some(now + PAUSE);
            return;
        }
        if self.paused.len() >= MAX_PAUSED {
            // All pauses are equally long, so the first ends first.
            self.paused.remove(0);
        }
        self.paused.push((destination, now + PAUSE));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    fn batch(port: u16, count: usize) -> SendBatch {
        let mut batch = SendBatch::new();
        for i in 0..count {
            batch.push(SocketAddr::from(([192, 0, 2, 1], port)), 100).unwrap().fill(i as u8);
        }
        batch
    }

    fn singles(from: usize) -> Request {
        Request::Singles { from, fragments: Fragments::Never }
    }

    fn error(code: i32) -> io::Result<usize> {
        Err(io::Error::from_raw_os_error(code))
    }

    /// Answers from a list, and then takes everything. Remembers what it was asked, and which datagrams went.
    struct Kernel {
        answers: Vec<io::Result<usize>>,
        asked: Vec<Request>,
        went: Vec<usize>,
        count: usize,
    }

    impl Kernel {
        fn new(count: usize, answers: impl IntoIterator<Item = io::Result<usize>>) -> Self {
            let mut answers: Vec<_> = answers.into_iter().collect();
            answers.reverse();
            Self { answers, asked: Vec::new(), went: Vec::new(), count }
        }

        fn answer(&mut self, request: Request) -> io::Result<usize> {
            self.asked.push(request);
            let from = if let Request::Singles { from, .. } = request { from } else { 0 };
            let sent = self.answers.pop().unwrap_or(Ok(self.count - from))?;
            self.went.extend(from..from + sent);
            Ok(sent)
        }
    }

    fn send(egress: &mut Egress, batch: &SendBatch, kernel: &mut Kernel) -> SocketSend {
        egress.send(std::slice::from_ref(batch), Instant::now, |request| kernel.answer(request))
    }

    #[test]
    fn a_batch_goes_in_one_call() {
        let (mut egress, mut kernel) = (Egress::new(true), Kernel::new(10, []));
        assert_eq!(send(&mut egress, &batch(1, 10), &mut kernel), SocketSend::Sent(1));
        assert_eq!(kernel.asked, [Request::Whole]);
        assert_eq!((egress.stats().datagrams, egress.stats().segmented), (10, 1));
    }

    #[test]
    fn a_refused_batch_goes_at_once_as_singles_and_so_do_the_next_ones_to_there() {
        for code in [libc::EIO, libc::EINVAL, libc::EMSGSIZE, libc::EOPNOTSUPP] {
            let (mut egress, mut kernel) = (Egress::new(true), Kernel::new(10, [error(code), Ok(3)]));
            assert_eq!(send(&mut egress, &batch(1, 10), &mut kernel), SocketSend::Sent(1));
            assert_eq!(kernel.asked, [Request::Whole, singles(0), singles(3)]);
            assert_eq!(kernel.went, (0..10).collect::<Vec<_>>());

            let mut kernel = Kernel::new(10, []);
            assert_eq!(send(&mut egress, &batch(1, 10), &mut kernel), SocketSend::Sent(1));
            assert_eq!(kernel.asked, [singles(0)]);
            let mut kernel = Kernel::new(10, []);
            assert_eq!(send(&mut egress, &batch(2, 10), &mut kernel), SocketSend::Sent(1));
            assert_eq!(kernel.asked, [Request::Whole], "another destination is not concerned");
        }
    }

    #[test]
    fn offload_is_tried_again_after_a_minute() {
        let (mut egress, start) = (Egress::new(true), Instant::now());
        let clock = Cell::new(start);
        let asked = |egress: &mut Egress, kernel: &mut Kernel| {
            assert_eq!(egress.send(&[batch(1, 2)], || clock.get(), |r| kernel.answer(r)), SocketSend::Sent(1));
            kernel.asked[0]
        };
        assert_eq!(asked(&mut egress, &mut Kernel::new(2, [error(libc::EIO)])), Request::Whole);
        clock.set(start + PAUSE - Duration::from_millis(1));
        assert_eq!(asked(&mut egress, &mut Kernel::new(2, [])), singles(0));
        clock.set(start + PAUSE);
        assert_eq!(asked(&mut egress, &mut Kernel::new(2, [])), Request::Whole);
    }

    #[test]
    fn a_full_socket_in_the_middle_of_singles_goes_on_there_without_duplicates() {
        let (mut egress, ten) = (Egress::new(true), batch(1, 10));
        let mut kernel = Kernel::new(10, [error(libc::EIO), Ok(4), error(libc::EAGAIN)]);
        assert_eq!(send(&mut egress, &ten, &mut kernel), SocketSend::Full);
        assert_eq!(kernel.went, [0, 1, 2, 3]);
        let mut again = Kernel::new(10, [Ok(1), error(libc::EAGAIN)]);
        assert_eq!(send(&mut egress, &ten, &mut again), SocketSend::Full);
        // Another batch may go in between.
        assert_eq!(send(&mut egress, &batch(2, 10), &mut Kernel::new(10, [])), SocketSend::Sent(1));
        assert_eq!(send(&mut egress, &ten, &mut again), SocketSend::Sent(1));
        assert_eq!(again.went, [4, 5, 6, 7, 8, 9]);
        // The same bytes once more are a batch of their own.
        let mut anew = Kernel::new(10, []);
        assert_eq!(send(&mut egress, &ten, &mut anew), SocketSend::Sent(1));
        assert_eq!(anew.went.len(), 10);
    }

    #[test]
    fn a_full_socket_keeps_a_batch_that_has_not_begun() {
        let (mut egress, ten) = (Egress::new(true), batch(1, 10));
        let mut kernel = Kernel::new(10, [error(libc::EAGAIN)]);
        assert_eq!(send(&mut egress, &ten, &mut kernel), SocketSend::Full);
        assert_eq!(send(&mut egress, &ten, &mut kernel), SocketSend::Sent(1));
        assert_eq!(kernel.asked, [Request::Whole, Request::Whole]);
        let mut kernel = Kernel::new(1, [error(libc::EAGAIN)]);
        assert_eq!(send(&mut egress, &batch(1, 1), &mut kernel), SocketSend::Full);
    }

    #[test]
    fn another_batch_of_the_same_shape_is_not_taken_for_the_one_that_was_cut_off() {
        let mut egress = Egress::new(false);
        let mut kernel = Kernel::new(10, [Ok(4), error(libc::EAGAIN)]);
        assert_eq!(send(&mut egress, &batch(1, 10), &mut kernel), SocketSend::Full);
        let mut other = SendBatch::new();
        for _ in 0..10 {
            other.push(SocketAddr::from(([192, 0, 2, 1], 1)), 100).unwrap().fill(0xee);
        }
        let mut kernel = Kernel::new(10, []);
        assert_eq!(send(&mut egress, &other, &mut kernel), SocketSend::Sent(1));
        assert_eq!(kernel.went.len(), 10);
    }

    #[test]
    fn a_datagram_that_a_filter_drops_does_not_take_the_others_along() {
        let mut egress = Egress::new(false);
        let mut kernel = Kernel::new(10, [Ok(4), error(libc::EPERM)]);
        assert_eq!(send(&mut egress, &batch(1, 10), &mut kernel), SocketSend::Sent(1));
        assert_eq!(kernel.went, [0, 1, 2, 3, 5, 6, 7, 8, 9]);
        assert_eq!((egress.stats().datagrams, egress.stats().dropped), (9, 1));
    }

    #[test]
    fn an_unreachable_destination_drops_the_batch_and_counts_it() {
        for (gso, code) in [(true, libc::ENETUNREACH), (false, libc::EHOSTUNREACH), (true, libc::EACCES)] {
            let (mut egress, mut kernel) = (Egress::new(gso), Kernel::new(10, [error(code)]));
            assert_eq!(send(&mut egress, &batch(1, 10), &mut kernel), SocketSend::Dropped);
            assert_eq!((kernel.asked.len(), egress.stats().dropped), (1, 10));
        }
    }

    #[test]
    fn an_error_of_an_earlier_datagram_is_passed_over_once() {
        let (mut egress, mut kernel) = (Egress::new(true), Kernel::new(10, [error(libc::ECONNREFUSED)]));
        assert_eq!(send(&mut egress, &batch(1, 10), &mut kernel), SocketSend::Sent(1));
        let mut kernel = Kernel::new(10, [error(libc::ECONNREFUSED), error(libc::ECONNREFUSED)]);
        assert_eq!(send(&mut egress, &batch(1, 10), &mut kernel), SocketSend::Dropped);
    }

    #[test]
    fn a_destination_that_takes_nothing_does_not_count_against_offload() {
        let mut egress = Egress::new(true);
        let mut kernel = Kernel::new(10, [error(libc::EINVAL), error(libc::EINVAL)]);
        assert_eq!(send(&mut egress, &batch(1, 10), &mut kernel), SocketSend::Dropped);
        assert!(egress.paused.is_empty());
    }

    #[test]
    fn refusals_for_every_destination_pause_the_socket() {
        let mut egress = Egress::new(true);
        for port in 1..=8 {
            assert_eq!(
                send(&mut egress, &batch(port, 2), &mut Kernel::new(2, [error(libc::EIO)])),
                SocketSend::Sent(1)
            );
        }
        let mut kernel = Kernel::new(2, []);
        assert_eq!(send(&mut egress, &batch(99, 2), &mut kernel), SocketSend::Sent(1));
        assert_eq!(kernel.asked, [singles(0)]);
    }

    #[test]
    fn one_success_shows_that_it_is_the_routes_and_their_number_is_bounded() {
        let mut egress = Egress::new(true);
        for port in 1..=100 {
            assert_eq!(
                send(&mut egress, &batch(port, 2), &mut Kernel::new(2, [error(libc::EIO)])),
                SocketSend::Sent(1)
            );
            assert_eq!(send(&mut egress, &batch(1_000, 2), &mut Kernel::new(2, [])), SocketSend::Sent(1));
        }
        assert_eq!((egress.paused.len(), egress.all_paused), (MAX_PAUSED, None));
    }

    fn batches(ports: std::ops::RangeInclusive<u16>, count: usize) -> Vec<SendBatch> {
        ports.map(|port| batch(port, count)).collect()
    }

    /// What becomes of `batches`, given again and again without those that are done, and what the kernel was asked.
    fn send_all(
        egress: &mut Egress,
        batches: &[SendBatch],
        answers: impl IntoIterator<Item = io::Result<usize>>,
    ) -> (Vec<SocketSend>, Vec<Request>) {
        let (mut answers, mut asked, mut results, mut done) = (answers.into_iter(), Vec::new(), Vec::new(), 0);
        while done < batches.len() {
            let result = egress.send(&batches[done..], Instant::now, |request| {
                asked.push(request);
                let all = match request {
                    Request::Together { count } => count,
                    Request::Whole => batches[done].count(),
                    Request::Singles { from, .. } => batches[done].count() - from,
                };
                answers.next().unwrap_or(Ok(all))
            });
            done += match result {
                SocketSend::Sent(count) => count,
                SocketSend::Full => 0,
                SocketSend::Dropped => 1,
            };
            results.push(result);
        }
        (results, asked)
    }

    #[test]
    fn several_batches_go_in_one_call_and_the_rest_of_a_short_one_in_the_next() {
        let mut egress = Egress::new(true);
        let (results, asked) = send_all(&mut egress, &batches(1..=8, 3), [Ok(5)]);
        assert_eq!(results, [SocketSend::Sent(5), SocketSend::Sent(3)]);
        assert_eq!(asked, [Request::Together { count: 8 }, Request::Together { count: 3 }]);
        assert_eq!((egress.stats().datagrams, egress.stats().segmented), (24, 8));
    }

    #[test]
    fn a_full_socket_takes_none_of_several_batches() {
        let mut egress = Egress::new(true);
        let (results, asked) = send_all(&mut egress, &batches(1..=3, 3), [error(libc::EAGAIN)]);
        assert_eq!(results, [SocketSend::Full, SocketSend::Sent(3)]);
        assert_eq!(asked, [Request::Together { count: 3 }; 2]);
        assert_eq!((egress.stats().datagrams, egress.stats().full), (9, 1));
    }

    #[test]
    fn the_batch_of_several_that_has_a_difficulty_meets_it_alone() {
        let mut egress = Egress::new(true);
        let answers =
            [Ok(1), error(libc::EIO), error(libc::EIO), Ok(3), error(libc::ENETUNREACH), error(libc::ENETUNREACH)];
        let (results, asked) = send_all(&mut egress, &batches(1..=5, 3), answers);
        let [one, two] = [1, 2].map(SocketSend::Sent);
        assert_eq!(results, [one, one, SocketSend::Dropped, two]);
        let together = |count| Request::Together { count };
        let (whole, singles) = (Request::Whole, singles(0));
        assert_eq!(asked, [together(5), together(4), whole, singles, together(3), whole, together(2)]);
        assert_eq!((egress.stats().datagrams, egress.stats().dropped, egress.stats().refused), (12, 3, 1));
    }

    #[test]
    fn what_must_go_one_by_one_goes_with_no_other_batch() {
        let mut egress = Egress::new(false);
        let [single, many] = [1, 3].map(|count| batch(7, count));
        let (_, asked) = send_all(&mut egress, &[single, many, batch(8, 1)], [Ok(1), Ok(2), error(libc::EAGAIN)]);
        let [all, last] = [0, 2].map(singles);
        assert_eq!(asked, [Request::Whole, all, last, last, Request::Whole]);
        assert_eq!(egress.stats().datagrams, 5);
    }

    #[test]
    fn an_empty_batch_needs_no_call() {
        let mut kernel = Kernel::new(0, []);
        assert_eq!(send(&mut Egress::new(true), &SendBatch::new(), &mut kernel), SocketSend::Sent(1));
        assert!(kernel.asked.is_empty());
    }
}
