//! Datagrams in a stream: each behind its length in two bytes, big end first, as DNS over TCP does it (RFC 1035 §4.2.2).

use std::ops::Range;

/// The longest datagram of UDP over IPv4.
pub(super) const MAX_DATAGRAM: usize = 65_507;

/// Bytes of a length.
const HEAD: usize = 2;

/// Appends a datagram to a stream. One that is empty or too long is none, and is left out.
pub(super) fn push(stream: &mut Vec<u8>, datagram: &[u8]) {
    if let Ok(len) = u16::try_from(datagram.len())
        && (1..=MAX_DATAGRAM).contains(&datagram.len())
    {
        stream.extend_from_slice(&len.to_be_bytes());
        stream.extend_from_slice(datagram);
    }
}

/// The datagrams of a stream that [`push`] made.
pub(super) fn datagrams(mut stream: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (head, rest) = stream.split_first_chunk::<HEAD>()?;
        let (datagram, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*head)))?;
        stream = rest;
        Some(datagram)
    })
}

/// What came of a stream and was not taken yet.
pub(super) struct Inflow {
    buffer: Box<[u8]>,
    filled: Range<usize>,
}

/// The stream is none of datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("what came is no stream of datagrams")]
pub(super) struct BadFrame;

impl Inflow {
    /// An empty one, with room for one datagram at least.
    pub(super) fn new() -> Self {
        Self { buffer: vec![0; 1 << 16].into(), filled: 0..0 }
    }

    /// Where to read more to, never empty after [`Inflow::next`] has given everything; tell [`Inflow::grow`] how much it was.
    pub(super) fn space(&mut self) -> &mut [u8] {
        self.buffer.copy_within(self.filled.clone(), 0);
        self.filled = 0..self.filled.len();
        self.buffer.get_mut(self.filled.end..).unwrap_or_default()
    }

    /// So many bytes were read.
    pub(super) fn grow(&mut self, count: usize) {
        self.filled.end = self.buffer.len().min(self.filled.end + count);
    }

    /// The next whole datagram.
    ///
    /// # Errors
    /// [`BadFrame`]; nothing that follows can be made sense of.
    pub(super) fn next(&mut self) -> Result<Option<&[u8]>, BadFrame> {
        let waiting = self.buffer.get(self.filled.clone()).unwrap_or_default();
        let Some((head, rest)) = waiting.split_first_chunk::<HEAD>() else { return Ok(None) };
        let len = usize::from(u16::from_be_bytes(*head));
        if !(1..=MAX_DATAGRAM).contains(&len) {
            return Err(BadFrame);
        }
        let Some(datagram) = rest.get(..len) else { return Ok(None) };
        self.filled.start += HEAD + len;
        Ok(Some(datagram))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_datagrams_of_a_stream_are_those_that_were_pushed() {
        let mut stream = Vec::new();
        [&b"one"[..], b"", b"three"].into_iter().for_each(|datagram| push(&mut stream, datagram));
        assert_eq!(datagrams(&stream).collect::<Vec<_>>(), [&b"one"[..], b"three"]);
    }

    fn read(stream: &[u8], pieces: &[usize]) -> Result<Vec<Vec<u8>>, BadFrame> {
        let (mut inflow, mut rest, mut found) = (Inflow::new(), stream, Vec::new());
        let mut pieces = pieces.iter().copied().cycle();
        while !rest.is_empty() {
            let space = inflow.space();
            assert!(!space.is_empty());
            let count = pieces.next().unwrap_or(1).clamp(1, space.len()).min(rest.len());
            space[..count].copy_from_slice(&rest[..count]);
            inflow.grow(count);
            rest = &rest[count..];
            while let Some(datagram) = inflow.next()? {
                found.push(datagram.to_vec());
            }
        }
        Ok(found)
    }

    #[test]
    fn a_length_that_no_datagram_has_ends_the_stream() {
        assert_eq!(read(&[0, 0, 1], &[3]), Err(BadFrame));
        assert_eq!(read(b"\xff\xff", &[1]), Err(BadFrame));
        assert_eq!(read(&[0, 2, 7], &[3]), Ok(vec![]));
    }

    proptest! {
        #[test]
        fn datagrams_come_out_as_they_went_in_however_the_stream_is_cut(
            datagrams in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..3_000), 0..40),
            long in 60_000usize..=MAX_DATAGRAM,
            pieces in proptest::collection::vec(1usize..70_000, 1..20),
        ) {
            let mut stream = Vec::new();
            let all: Vec<Vec<u8>> = datagrams.into_iter().chain([vec![7; long]]).collect();
            all.iter().for_each(|datagram| push(&mut stream, datagram));
            push(&mut stream, &[]);
            push(&mut stream, &vec![0; MAX_DATAGRAM + 1]);
            prop_assert_eq!(read(&stream, &pieces), Ok(all));
        }

        #[test]
        fn no_stream_makes_the_reader_panic(stream in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&stream, &[7]);
        }
    }
}
