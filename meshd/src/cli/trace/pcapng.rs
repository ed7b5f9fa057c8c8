//! Capture files: the three blocks of pcapng (draft-ietf-opsawg-pcapng, sections 4.1 to 4.3) that a trace needs.

use std::io::{self, Write};

use crate::api::trace::PacketLine;

/// Packets begin with their IP header (LINKTYPE_RAW).
const RAW: u16 = 101;

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const PACKET: u32 = 6;

/// The option of any block that is a text for people.
const COMMENT: u16 = 1;
/// The option of a packet block that tells its direction.
const FLAGS: u16 = 2;

/// A capture that is being written.
pub(super) struct Capture<W> {
    out: W,
}

impl<W: Write> Capture<W> {
    /// Begins a capture of packets of which at most `snap` bytes are kept.
    ///
    /// # Errors
    /// Those of writing.
    pub(super) fn new(mut out: W, snap: u32) -> io::Result<Self> {
        let mut section = Vec::new();
        section.extend(0x1a2b_3c4d_u32.to_le_bytes());
        // Version 1.0, and a length that is not known beforehand.
        section.extend([1, 0, 0, 0]);
        section.extend(u64::MAX.to_le_bytes());
        block(&mut out, SECTION, &section)?;
        let mut interface = Vec::new();
        interface.extend(RAW.to_le_bytes());
        interface.extend([0; 2]);
        interface.extend(snap.to_le_bytes());
        block(&mut out, INTERFACE, &interface)?;
        out.flush()?;
        Ok(Self { out })
    }

    /// Writes a packet, of which `bytes` are kept, and what is to be said of it.
    ///
    /// # Errors
    /// Those of writing.
    pub(super) fn packet(&mut self, packet: &PacketLine, bytes: &[u8], comment: Option<&str>) -> io::Result<()> {
        let (high, low) = (packet.unix_us >> 32, packet.unix_us & u64::from(u32::MAX));
        let mut body = vec![0; 4];
        // What is cut off counts too; a super-packet has its whole length.
        for number in [high, low, bytes.len() as u64, packet.length.max(bytes.len()) as u64] {
            body.extend(u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes());
        }
        body.extend(bytes);
        pad(&mut body);
        let direction: u32 = if packet.direction == "in" { 1 } else { 2 };
        option(&mut body, FLAGS, &direction.to_le_bytes());
        if let Some(comment) = comment {
            option(&mut body, COMMENT, comment.as_bytes());
        }
        body.extend([0; 4]);
        block(&mut self.out, PACKET, &body)?;
        self.out.flush()
    }
}

/// A block is its type, its length, its body, and its length again.
fn block(out: &mut impl Write, kind: u32, body: &[u8]) -> io::Result<()> {
    let len = u32::try_from(body.len() + 12).map_err(io::Error::other)?.to_le_bytes();
    out.write_all(&[&kind.to_le_bytes(), len.as_slice(), body, &len].concat())
}

fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    let value = value.get(..usize::from(u16::MAX)).unwrap_or(value);
    body.extend(code.to_le_bytes());
    body.extend(u16::try_from(value.len()).unwrap_or(u16::MAX).to_le_bytes());
    body.extend(value);
    pad(body);
}

/// Up to a multiple of four.
fn pad(body: &mut Vec<u8>) {
    body.resize(body.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_block_has_its_length_at_both_ends_and_a_multiple_of_four() {
        let mut out = Vec::new();
        let mut capture = Capture::new(&mut out, 2_048).unwrap();
        let line = PacketLine { length: 62_000, unix_us: 1 << 33 | 7, ..PacketLine::default() };
        capture.packet(&line, b"12345", Some("dropped: for a test")).unwrap();
        capture.packet(&line, b"", None).unwrap();
        let (mut rest, mut kinds) = (out.as_slice(), Vec::new());
        while !rest.is_empty() {
            let word = |at: usize| u32::from_le_bytes(rest[at..at + 4].try_into().unwrap());
            let len = word(4) as usize;
            assert!(len.is_multiple_of(4) && word(len - 4) as usize == len);
            kinds.push(word(0));
            if kinds.len() == 3 {
                assert_eq!([word(12), word(16), word(20), word(24)], [2, 7, 5, 62_000]);
                assert_eq!(&rest[28..33], b"12345");
            }
            rest = &rest[len..];
        }
        assert_eq!(kinds, [SECTION, INTERFACE, PACKET, PACKET]);
    }
}
