//! The people who talk in the workspace.

use super::Vendor;

/// Somebody, with the vendor's ID of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// The vendor's ID: `U0ALICE`, `300000000000000001`, `5000000001`.
    pub id: String,
    /// Their name, in lower case.
    pub name: String,
}

/// Who there is. Anybody may be typed into the page; these are offered.
pub(super) const NAMES: [&str; 3] = ["alice", "bob", "mallory"];

/// A person's ID on a platform: the same name is always the same person.
pub(super) fn person(vendor: Vendor, name: &str) -> Person {
    let name = name.trim().to_lowercase();
    let number = NAMES.iter().position(|known| *known == name).map_or_else(
        // Anybody else gets a number from their name.
        || name.bytes().fold(1000_u64, |sum, byte| (sum * 31 + u64::from(byte)) % 900_000) + 1000,
        |place| place as u64 + 1,
    );
    let id = match vendor {
        Vendor::Slack => {
            let word: String = name.chars().filter(char::is_ascii_alphanumeric).take(20).collect();
            format!("U0{}", word.to_ascii_uppercase())
        }
        Vendor::Discord => (300_000_000_000_000_000 + number).to_string(),
        Vendor::Telegram => (5_000_000_000 + number).to_string(),
    };
    Person { id, name }
}
