//! What is refused is written down: who was refused, where as far as that was found out, and why.

use super::{MOST_TEXT_CHARACTERS, Notifier, SubmitError};
use crate::model::audit::{Act, Entry, Refused};
use crate::model::{ClientName, PlatformKind};
use crate::policy::Denied;
use crate::telemetry::metrics::Gate;

/// What is known of a call so far.
pub(super) fn asked(client: &ClientName, platform: Option<PlatformKind>) -> Entry {
    Entry { client: Some(client.clone()), platform, ..Entry::new(Act::Denied) }
}

/// Why an error is a refusal. An argument that makes no sense is none.
pub(super) const fn refusal(error: &SubmitError) -> Option<(Refused, Option<Gate>)> {
    match error {
        SubmitError::Denied(Denied::Channel { .. }) => Some((Refused::Channel, Some(Gate::Submit))),
        SubmitError::Denied(Denied::Threads) => Some((Refused::Threads, Some(Gate::Submit))),
        SubmitError::Unwelcome(_) => Some((Refused::Stranger, Some(Gate::Submit))),
        // No client may write more than that.
        SubmitError::Huge { most, .. } if *most >= MOST_TEXT_CHARACTERS => None,
        SubmitError::Huge { .. } => Some((Refused::Length, Some(Gate::Submit))),
        SubmitError::Blocked(_) => Some((Refused::Guard, Some(Gate::Guard))),
        SubmitError::TooMuch { .. } => Some((Refused::Rate, Some(Gate::Rate))),
        SubmitError::KeyReused => Some((Refused::KeyReused, None)),
        SubmitError::NoSuchDelivery(_) => Some((Refused::NoSuchDelivery, None)),
        SubmitError::NotConfigured(_)
        | SubmitError::Unasked(_)
        | SubmitError::Render(_)
        | SubmitError::Argument(_)
        | SubmitError::Store => None,
    }
}

impl Notifier {
    /// Writes a refusal down, and counts it, whether or not anybody waits for that. What was found out by then is in
    /// `asked`.
    pub(super) fn refused(
        &self,
        asked: Entry,
        error: &SubmitError,
    ) -> impl Future<Output = ()> + Send + use<> {
        let written = self.entry(asked, error).map(|entry| self.scribe.refused(entry));
        async move {
            if let Some(written) = written {
                written.await;
            }
        }
    }

    fn entry(&self, mut asked: Entry, error: &SubmitError) -> Option<Entry> {
        let (why, gate) = refusal(error)?;
        // No word of the caller's own: a delivery that is none may be called anything.
        if why == Refused::NoSuchDelivery && asked.delivery.is_none() {
            return None;
        }
        if let SubmitError::Blocked(blocked) = error {
            asked.filtered.clone_from(&blocked.filtered);
        }
        let platform = asked.channel.as_ref().map(|it| it.platform()).or(asked.platform);
        if let (Some(platform), Some(gate)) = (platform, gate) {
            self.metrics.denied(platform, gate);
        }
        if asked.channel.is_some() {
            asked.platform = None;
        }
        Some(asked.refused(why))
    }
}
