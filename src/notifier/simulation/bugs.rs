//! Mistakes, planted on purpose: for each, what the judge has to say about it.

use crate::store::memory::Flaw;

/// Where something is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bug {
    /// In the store.
    Store(Flaw),
    /// Whoever cannot reach the store acts as if it had stored.
    HidesThatTheStoreIsAway,
    /// The worker does not ask again who may send where.
    AsksNobody,
    /// The worker begins nothing before all that it began has ended.
    WaitsForAll,
    /// One process's clock is 45 s ahead.
    ClocksFarApart,
    /// A platform's edge says that what got no answer was not sent.
    CallsLostAnswersRetryable,
    /// A platform's edge says that what got no answer has arrived.
    CallsLostAnswersDelivered,
    /// A platform's edge does not pass on how long to wait.
    DropsRetryAfter,
}

/// Each mistake, and the complaints that are about it.
pub(super) const ALL: &[(Bug, &[&str])] = &[
    (Bug::AsksNobody, &["route"]),
    (Bug::HidesThatTheStoreIsAway, &["accepted"]),
    (Bug::Store(Flaw::LosesRows), &["lost", "once"]),
    (Bug::Store(Flaw::KeepsLeases), &["ended", "prompt"]),
    (Bug::Store(Flaw::ForgetsKeys), &["once"]),
    (Bug::Store(Flaw::NewestFirst), &["order"]),
    (Bug::Store(Flaw::RetriesLast), &["order"]),
    (Bug::Store(Flaw::SpreadsHolds), &["prompt", "breaker"]),
    (Bug::WaitsForAll, &["prompt"]),
    (Bug::Store(Flaw::IgnoresLeases), &["alone"]),
    (Bug::ClocksFarApart, &["alone", "slow down", "breaker", "prompt"]),
    (Bug::Store(Flaw::ForgetsTheFence), &["fence"]),
    (Bug::Store(Flaw::KeepsWhatIsFenced), &["fence"]),
    (Bug::Store(Flaw::ForgetsInterruptions), &["doubt", "twice", "failed"]),
    (Bug::Store(Flaw::ForgetsDoubts), &["failed", "doubt", "told"]),
    (Bug::Store(Flaw::ForgetsResends), &["doubt", "twice", "ended"]),
    (Bug::Store(Flaw::RenewsNonces), &["twice", "doubt"]),
    (Bug::CallsLostAnswersRetryable, &["doubt", "twice"]),
    (Bug::CallsLostAnswersDelivered, &["delivered"]),
    (Bug::Store(Flaw::ForgetsWarnings), &["told"]),
    (Bug::Store(Flaw::SkipsParts), &["delivered"]),
    (Bug::Store(Flaw::IgnoresChannelHolds), &["slow down"]),
    (Bug::Store(Flaw::IgnoresBotHolds), &["slow down"]),
    (Bug::DropsRetryAfter, &["slow down"]),
    (Bug::Store(Flaw::IgnoresPaces), &["pace"]),
    (Bug::Store(Flaw::CountsNoFailures), &["breaker"]),
    (Bug::Store(Flaw::ProbesWithAll), &["breaker"]),
    (Bug::Store(Flaw::ForgetsRefusals), &["refused"]),
    (Bug::Store(Flaw::ForgetsDeadlines), &["deadline"]),
    (Bug::Store(Flaw::ForgetsThreads), &["thread"]),
];
