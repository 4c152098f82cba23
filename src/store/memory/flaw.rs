//! Mistakes that a store may make.

/// What a store may get wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// Says that a submission is stored, and now and then it is not.
    LosesRows,
    /// Keys are not looked up.
    ForgetsKeys,
    /// The newest of a lane goes first.
    NewestFirst,
    /// What is tried again goes to the end of its lane.
    RetriesLast,
    /// A lane that is held is given away as well.
    IgnoresLeases,
    /// A lane that was claimed is never free again.
    KeepsLeases,
    /// The result of an older claim is taken.
    ForgetsTheFence,
    /// The result of an older claim is void, but kept.
    KeepsWhatIsFenced,
    /// What a channel has to wait for is not noted.
    IgnoresChannelHolds,
    /// What a bot has to wait for is not noted.
    IgnoresBotHolds,
    /// What one channel has to wait for holds up all of them.
    SpreadsHolds,
    /// The pace of a channel is not kept.
    IgnoresPaces,
    /// An interrupted claim looks like a fresh one.
    ForgetsInterruptions,
    /// Whether an attempt may have arrived is not noted.
    ForgetsDoubts,
    /// Whether an attempt was repeated is not noted.
    ForgetsResends,
    /// A step gets a new nonce with each claim.
    RenewsNonces,
    /// Failures of a bot are not counted.
    CountsNoFailures,
    /// A bot that waits is given as many turns as there are lanes.
    ProbesWithAll,
    /// Which secret was refused is not noted.
    ForgetsRefusals,
    /// Nothing is ever too late.
    ForgetsDeadlines,
    /// The thread that a key opened is not noted.
    ForgetsThreads,
    /// What a caller has to know is not noted.
    ForgetsWarnings,
    /// What was recorded is done, whatever is left.
    SkipsParts,
}
