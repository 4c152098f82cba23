//! Hashes: SHA-256, or HMAC-SHA-256 with the operator's key.

use std::fmt;

use hmac::{Hmac, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

/// What stands for the row before the first one.
pub const ZERO: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// What makes the hashes. What is hashed begins with 64 hexadecimal digits where it is a row, and with a word that has other
/// letters elsewhere: so none is good for another purpose, and no agent gets a row sealed by sending its text.
#[derive(Clone)]
pub struct Seal(Option<Hmac<Sha256>>);

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Seal(keyed)" } else { "Seal" })
    }
}

impl Seal {
    /// With this key, if there is one.
    #[must_use]
    pub fn new(key: Option<&SecretString>) -> Self {
        // HMAC takes keys of any length.
        Self(key.and_then(|key| Hmac::new_from_slice(key.expose_secret().as_bytes()).ok()))
    }

    /// Whether there is a key.
    #[must_use]
    pub const fn is_keyed(&self) -> bool {
        self.0.is_some()
    }

    /// The hash of a row, in hexadecimal: of the hash of the row before it, as it is written, and of its line.
    #[must_use]
    pub fn row(&self, prev: &str, line: &str) -> String {
        self.keyed(&[prev, line]).unwrap_or_else(|| {
            let digest = Sha256::new_with_prefix(prev).chain_update(line).finalize();
            format!("{digest:x}")
        })
    }

    /// With a key, what says that a chain ended here.
    #[must_use]
    pub fn head(&self, chain: &str, n: u64, hash: &str) -> Option<String> {
        self.keyed(&["head:", chain, ":", &n.to_string(), ":", hash])
    }

    /// With a key, what says that a chain begins after this row by now.
    #[must_use]
    pub fn base(&self, chain: &str, n: u64, hash: &str) -> Option<String> {
        self.keyed(&["base:", chain, ":", &n.to_string(), ":", hash])
    }

    /// With a key, what tells whether a message said this: of `text:` and the text.
    #[must_use]
    pub fn text(&self, text: &str) -> Option<String> {
        self.keyed(&["text:", text])
    }

    /// With a key, which one it is: 16 hexadecimal digits that do not tell what it is.
    #[must_use]
    pub fn fingerprint(&self) -> Option<String> {
        let mut digits = self.keyed(&["key:"])?;
        digits.truncate(16);
        Some(digits)
    }

    fn keyed(&self, pieces: &[&str]) -> Option<String> {
        let mut mac = self.0.clone()?;
        pieces.iter().for_each(|piece| mac.update(piece.as_bytes()));
        Some(format!("{:x}", mac.finalize().into_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_what_other_tools_compute() {
        let plain = Seal::new(None);
        // printf '%s%s' "$ZERO" '{}' | sha256sum
        assert_eq!(
            plain.row(ZERO, "{}"),
            "5508d2b710e64bc470079e1b211d9c58e21011e59d0559e422345dc19d659a75"
        );
        assert_eq!(
            (plain.head("c", 1, ZERO), plain.text("t"), plain.fingerprint()),
            (None, None, None)
        );
        let keyed = Seal::new(Some(&"canary".into()));
        // printf '%s%s' "$ZERO" '{}' | openssl dgst -sha256 -hmac canary
        assert_eq!(
            keyed.row(ZERO, "{}"),
            "004b999d42979a068a800cc7846a4951c13e4e3e38b87bede0e498dd3dfe2bc3"
        );
        assert_ne!(keyed.text("t"), keyed.text("u"));
        assert!(!format!("{keyed:?}").contains("canary"));
    }

    /// A text that looks like a row with its `prev` must not be given a row's hash.
    #[test]
    fn nobody_gets_a_row_sealed_by_sending_it() {
        let keyed = Seal::new(Some(&"canary".into()));
        let row = keyed.row(ZERO, "{}");
        assert_ne!(keyed.text(&format!("{ZERO}{{}}")), Some(row.clone()));
        assert_ne!(keyed.text("head:c:1:x"), keyed.head("c", 1, "x"));
        assert_ne!(keyed.base("c", 1, "x"), keyed.head("c", 1, "x"));
    }
}
