//! What is going to happen on a simulated day, drawn from its seed: who is there, who wants what, and what goes wrong.

use std::ops::Range;
use std::time::Duration;

use crate::delivery::OnUnknown;
use crate::model::{ChannelId, PlatformKind};
use crate::platform::{Capabilities, Pace};

/// Milliseconds since the day began, by a clock that is right.
pub(super) type Moment = u64;

/// A seeded source of everything that is left to chance: SplitMix64, <https://prng.di.unimi.it/splitmix64.c>.
pub(super) struct Dice(u64);

impl Dice {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number within a range, which is not empty.
    pub(super) fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.roll() % (range.end - range.start)
    }

    pub(super) fn chance(&mut self, percent: u64) -> bool {
        self.within(0..100) < percent
    }

    pub(super) fn one_of<T: Clone>(&mut self, these: &[T]) -> T {
        let n = self.within(0..these.len() as u64);
        these[n as usize].clone()
    }

    /// In `0.0..1.0`.
    pub(super) fn fraction(&mut self) -> f64 {
        self.within(0..1000) as f64 / 1000.0
    }

    /// A stretch of time within the first minute, now and then.
    fn stretch(&mut self, percent: u64, length: Range<u64>) -> Range<Moment> {
        if !self.chance(percent) {
            return 0..0;
        }
        let from = self.within(0..25_000);
        from..from + self.within(length)
    }
}

/// A platform of that day.
#[derive(Clone, Debug)]
pub(super) struct Chat {
    pub(super) kind: PlatformKind,
    pub(super) capabilities: Capabilities,
    /// Whether the history may be read.
    pub(super) tells: bool,
    pub(super) channels: Vec<ChannelId>,
    pub(super) pace: Pace,
    pub(super) bot_pace: Pace,
    /// Of a hundred requests, so many are not simply accepted.
    pub(super) trouble: u64,
    /// It fails all the time.
    pub(super) storm: Range<Moment>,
}

/// What somebody does.
#[derive(Clone, Debug)]
pub(super) enum Errand {
    /// Message `n` is submitted to a process, again if it was before.
    Submit { n: usize, process: usize },
    /// A process is killed after so many steps.
    Kill { process: usize, steps: u64 },
    /// A process is asked to stop, and another one started.
    Restart { process: usize },
    /// The clock of a process is set wrong by so much.
    Skew { process: usize, by: i64 },
    /// Posting to this channel is not allowed any more; takes effect when a process is started.
    Forbid { channel: ChannelId },
    /// The secret of a platform is not valid any more.
    Revoke { chat: usize },
    /// Processes that start from now on have another secret for a platform, which may be wrong.
    Replace { chat: usize, right: bool },
    /// The operator lets bots try again.
    Resume,
    /// The operator tries what failed again, or what nobody knows.
    Retry,
    /// The operator discards the newest message that waits.
    Discard,
}

/// A message that somebody wants to send.
#[derive(Clone, Debug)]
pub(super) struct Post {
    pub(super) chat: usize,
    pub(super) channel: ChannelId,
    pub(super) client: &'static str,
    pub(super) parts: usize,
    /// It changes what this one sent.
    pub(super) edits: Option<usize>,
    pub(super) thread_key: Option<&'static str>,
    /// Whoever asks gives a key, and may ask more than once.
    pub(super) keyed: bool,
}

/// The day.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) on_unknown: OnUnknown,
    pub(super) backoff: Duration,
    pub(super) deadline: Duration,
    pub(super) wait: Duration,
    pub(super) chats: Vec<Chat>,
    pub(super) processes: usize,
    pub(super) posts: Vec<Post>,
    pub(super) errands: Vec<(Moment, Errand)>,
    /// How long an access to the store may take.
    pub(super) store_ms: u64,
    /// The store does not answer.
    pub(super) store_away: Range<Moment>,
    /// Of a hundred accesses to the store, so many take very long.
    pub(super) stalls: u64,
    /// Of a hundred changes, so many are stored, but the answer is lost.
    pub(super) lost_answers: u64,
    /// For how many seconds a platform may ask for silence.
    pub(super) silence: u64,
    /// How far the clocks may be apart, in milliseconds.
    pub(super) apart: u64,
    /// From here on nothing goes wrong any more.
    pub(super) calm: Moment,
}

impl Plan {
    pub(super) fn of(dice: &mut Dice) -> Self {
        let mut kinds = PlatformKind::ALL.to_vec();
        for _ in 0..dice.one_of(&[0, 1, 1, 2, 2, 2]) {
            let gone = dice.within(0..kinds.len() as u64) as usize;
            kinds.remove(gone);
        }
        let busy = dice.chance(30);
        let chats: Vec<_> = kinds.into_iter().map(|kind| chat(dice, kind, busy)).collect();
        let processes = dice.one_of(&[1, 1, 2, 2, 3]);
        let apart = if dice.chance(25) { dice.within(1..2000) } else { 0 };
        let mut plan = Self {
            on_unknown: dice.one_of(&[OnUnknown::Resend, OnUnknown::Hold]),
            backoff: Duration::from_millis(dice.one_of(&[50, 200, 1000])),
            deadline: Duration::from_secs(dice.one_of(&[20, 60, 3600, 3600, 3600])),
            wait: Duration::from_millis(dice.within(100..6000)),
            chats,
            processes,
            posts: Vec::new(),
            errands: Vec::new(),
            store_ms: dice.one_of(&[0, 1, 5, 30]),
            store_away: dice.stretch(20, 500..15_000),
            stalls: dice.one_of(&[0, 0, 0, 0, 3]),
            lost_answers: dice.one_of(&[0, 0, 0, 3]),
            silence: dice.one_of(&[5, 5, 40, 40, 40]),
            apart,
            calm: 0,
        };
        if dice.chance(4) {
            plan.silence = 400;
        }
        plan.say_something(dice, busy);
        plan.go_wrong(dice);
        plan.errands.sort_by_key(|(at, _)| *at);
        let last = plan.errands.last().map_or(0, |(at, _)| *at);
        plan.calm = last.max(plan.store_away.end) + dice.within(0..5_000);
        plan
    }

    fn say_something(&mut self, dice: &mut Dice, busy: bool) {
        let most = if busy { 12..24 } else { 2..10 };
        for n in 0..dice.within(most) as usize {
            let at = dice.within(0..15_000);
            let process = dice.within(0..self.processes as u64) as usize;
            let edits = dice.chance(12).then(|| dice.within(0..n.max(1) as u64) as usize);
            let edits = edits.filter(|first| *first < n && self.posts[*first].edits.is_none());
            let post = if let Some(first) = edits {
                let (edits, keyed, thread_key) = (Some(first), false, None);
                Post { edits, keyed, thread_key, ..self.posts[first].clone() }
            } else {
                let chat = dice.within(0..self.chats.len() as u64) as usize;
                Post {
                    chat,
                    channel: dice.one_of(&self.chats[chat].channels),
                    client: dice.one_of(&["default", "shell"]),
                    parts: dice.one_of(&[1, 1, 1, 2, 3]),
                    edits: None,
                    thread_key: dice.one_of(&[None, None, None, Some("incident")]),
                    keyed: dice.chance(40),
                }
            };
            for _ in 0..dice.within(0..3) {
                if post.keyed {
                    let process = dice.within(0..self.processes as u64) as usize;
                    let again = at + dice.within(1..20_000);
                    self.errands.push((again, Errand::Submit { n, process }));
                }
            }
            self.posts.push(post);
            self.errands.push((at, Errand::Submit { n, process }));
        }
    }

    fn go_wrong(&mut self, dice: &mut Dice) {
        let process = |dice: &mut Dice| dice.within(0..self.processes as u64) as usize;
        let mut errands = Vec::new();
        for _ in 0..dice.one_of(&[0, 0, 1, 1, 2, 4]) {
            let (process, steps) = (process(dice), dice.within(1..80));
            errands.push((dice.within(0..25_000), Errand::Kill { process, steps }));
        }
        if dice.chance(20) {
            let process = process(dice);
            errands.push((dice.within(0..25_000), Errand::Restart { process }));
        }
        if self.apart > 0 {
            for _ in 0..3 {
                let by = dice.within(0..self.apart) as i64 - self.apart as i64 / 2;
                let process = process(dice);
                errands.push((dice.within(0..20_000), Errand::Skew { process, by }));
            }
        }
        // Whatever is configured takes effect as processes are replaced, one after the other.
        let mut replaced = Vec::new();
        if dice.chance(15) {
            let chat = dice.within(0..self.chats.len() as u64) as usize;
            let channel = dice.one_of(&self.chats[chat].channels);
            replaced.push((dice.within(0..20_000), Errand::Forbid { channel }));
        }
        if dice.chance(20) {
            let chat = dice.within(0..self.chats.len() as u64) as usize;
            let at = dice.within(0..15_000);
            errands.push((at, Errand::Revoke { chat }));
            let then = at + dice.within(0..20_000);
            if dice.chance(40) {
                replaced.push((then, Errand::Replace { chat, right: false }));
            }
            let then = then + dice.within(5_000..20_000);
            replaced.push((then, Errand::Replace { chat, right: true }));
        }
        for (at, errand) in replaced {
            errands.push((at, errand));
            for process in 0..self.processes {
                let at = at + dice.within(1..8_000);
                errands.push((at, Errand::Restart { process }));
            }
        }
        for (percent, errand) in [(8, Errand::Resume), (15, Errand::Retry), (10, Errand::Discard)] {
            if dice.chance(percent) {
                errands.push((dice.within(2_000..40_000), errand));
            }
        }
        self.errands.append(&mut errands);
    }
}

fn chat(dice: &mut Dice, kind: PlatformKind, busy: bool) -> Chat {
    let most = if busy { 6 } else { 3 };
    let channels = (0..dice.within(1..most + 1)).map(|n| {
        let id = match kind {
            PlatformKind::Slack => format!("C0{n}"),
            PlatformKind::Discord => format!("10000000000000000{n}"),
            PlatformKind::Telegram => format!("-100{n}"),
        };
        ChannelId::new(kind, &id).unwrap()
    });
    let (discord, slack) = (kind == PlatformKind::Discord, kind == PlatformKind::Slack);
    Chat {
        kind,
        // As the three are; whether Slack's history is looked at differs.
        capabilities: Capabilities {
            dedupes: discord,
            recalls: slack && dice.chance(75),
            threads: discord || slack,
            opens_threads: discord,
        },
        tells: dice.chance(70),
        channels: channels.collect(),
        pace: Pace { interval_ms: dice.one_of(&[0, 0, 100, 1000]), burst: dice.one_of(&[1, 3]) },
        bot_pace: Pace { interval_ms: dice.one_of(&[0, 0, 40]), burst: 1 },
        trouble: dice.one_of(&[0, 5, 20, 40, 70]),
        storm: dice.stretch(20, 2_000..30_000),
    }
}
