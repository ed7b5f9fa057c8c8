//! The two messages about why packets get through.

use proto::wire::{Control, View};

/// The kinds of the question and of the answer.
const KINDS: [u8; 2] = [18, 19];

/// Longest question in bytes: kind, token, reach, two addresses, a key.
const QUESTION: usize = 1 + 8 + 1 + 16 + 16 + 32;

/// Whatever follows their kind is read without harm; what is read is written as what means the same, no longer than a question
/// is, and codes that nobody knows tell nothing.
///
/// # Panics
/// Where that is not so.
pub fn question(bytes: &[u8]) {
    for kind in KINDS {
        let plaintext = [&[kind], bytes].concat();
        let Some(message) = Control::parse(&plaintext) else { continue };
        let written = message.to_bytes();
        assert!(written.len() <= QUESTION && written.first() == Some(&kind));
        assert_eq!(Control::parse(&written).as_ref(), Some(&message));
        if let Control::WhyAnswer(answer) = message {
            let unknown = bytes.get(8..16).is_some_and(|codes| codes.iter().all(|code| *code == 0 || *code > 100));
            let codes = View { rtt: answer.near.rtt, mtu: answer.near.mtu, ..View::default() };
            assert!(!unknown || answer.near == codes);
        }
    }
}
