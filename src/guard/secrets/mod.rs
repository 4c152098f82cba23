//! Secrets in what leaves: Herald's own by what they are, everybody's by what they look like.
//!
//! Both are nets with holes. Whoever encrypts a token, spells it or spreads it over ten messages gets through; what they
//! catch is the token that an agent found in a log, a file or an environment and passed on.

mod allow;
mod file;
mod own;
mod pattern;
mod rules;

pub use file::RulesError;
pub use own::Own;
pub use rules::{Hit, Rules};
