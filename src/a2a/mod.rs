//! A client for agents that speak A2A, 0.3 or 1.0: send, watch, resume, decide, cancel. It knows nothing of chat.
//!
//! One tolerant reader for both dialects, and one writer for each. Stable kagent speaks 0.3, its next release 1.0, and
//! either of two shapes for approvals; no library speaks both.
//!
//! Two rules are above all others. A message is never sent twice: no runtime recognises a repeated one, so it would run
//! twice. And silence is no failure: a task that is quiet is asked how it stands, listened to again, and polled, until
//! there was no news for as long as the settings allow.
//!
//! See <https://a2a-protocol.org/latest/specification/>.

mod card;
mod client;
mod config;
mod dialect;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod part;
mod pause;
mod read;
mod run;
mod sse;
mod turn;
mod wire;

#[cfg(test)]
mod captures_tests;
#[cfg(test)]
mod run_tests;
#[cfg(test)]
mod scripted;
#[cfg(test)]
mod tests;

pub use card::AgentCard;
pub use client::Client;
pub use config::{Config, UnknownVersion, UserId, Version};
pub use error::Error;
pub use pause::{Approval, Decision, Pause, Question, Questions, Shape, ToolCall, Verdict};
pub use run::Run;
pub use turn::{
    Answer, Caller, Cancel, Content, File, Link, OutPart, Outcome, Outgoing, Snapshot, State,
    ToolState, Update,
};
