//! The second net: whatever a report is made of, the actual secrets of this node must not be in it.

use std::fmt::Write as _;
use std::io::Read as _;
use std::path::Path;

use config::plain;
use proto::id::SecretKey;
use zeroize::Zeroizing;

/// Shorter ones stand in every text; none that is used is.
const SHORTEST: usize = 8;

/// More than a key file has, in bytes.
const LONGEST_FILE: u64 = 4096;

/// Texts that must not be seen.
#[derive(Default)]
pub(super) struct Secrets(Vec<Zeroizing<String>>);

impl Secrets {
    /// Adds a secret in the forms in which it may appear: as it is written, without padding, and its bytes in hexadecimal.
    pub(super) fn add(&mut self, text: &str) {
        let text = text.trim();
        let mut forms = vec![Zeroizing::new(text.to_owned()), Zeroizing::new(text.trim_end_matches('=').to_owned())];
        if let Ok(key) = text.parse::<SecretKey>() {
            let mut hex = Zeroizing::new(String::with_capacity(64));
            for byte in key.as_bytes() {
                let _ = write!(hex, "{byte:02x}");
            }
            forms.extend([Zeroizing::new(hex.to_ascii_uppercase()), hex]);
        }
        self.0.extend(forms.into_iter().filter(|form| form.len() >= SHORTEST));
    }

    /// Adds what is in a key file, be it a good one or not. One that cannot be read cannot be in the report either.
    pub(super) fn add_file(&mut self, path: &Path) {
        let mut text = Zeroizing::new(String::with_capacity(LONGEST_FILE as usize));
        // A link is followed: what it leads to would be no less a secret.
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let mut read = || plain::open(&path)?.take(LONGEST_FILE).read_to_string(&mut text);
        if read().is_ok() {
            text.split_whitespace().for_each(|word| self.add(word));
        }
    }

    /// Whether one of them is in `bytes`.
    pub(super) fn are_in(&self, bytes: &[u8]) -> bool {
        let text = String::from_utf8_lossy(bytes);
        self.0.iter().any(|secret| text.contains(secret.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_in_every_form_and_short_words_are_not_looked_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("private.key");
        std::fs::write(&path, "  AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\n").unwrap();
        let mut secrets = Secrets::default();
        secrets.add_file(&path);
        secrets.add_file(folder.path());
        secrets.add("short");
        for text in ["x AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE y", &"01".repeat(32)] {
            assert!(secrets.are_in(text.as_bytes()), "{text}");
        }
        assert!(!secrets.are_in(b"short and AQEBAQEB"));
    }
}
