//! What Discord tells the bot.

use super::super::state::Heard;
use crate::clock::Timestamp;

/// What waits to be told.
#[derive(Debug, Default)]
pub(in crate::sandbox) struct Inbound;

impl Inbound {
    /// Somebody did something.
    pub(in crate::sandbox) fn hear(&mut self, _heard: &Heard, _now: Timestamp) {}
}
