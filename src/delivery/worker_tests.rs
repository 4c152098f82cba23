//! The worker against a scripted platform, a manual clock and a real store: whatever happens, nothing is lost, nothing
//! overtakes, nothing is sent before its time or more often than the rules allow.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use proptest::prelude::*;
use tokio::sync::Notify;

use super::{OnUnknown, Settings, Worker};
use crate::clock::{Clock, ManualClock, Timestamp};
use crate::model::{
    Action, Attachment, ChannelId, ChannelInfo, ClientName, Delivery, DeliveryId, DeliveryState,
    Disposition, Failure, Identity, Invitation, Part, Person, Placement, PlatformKind, Reason,
    Scope, Step, TextPart, Visit,
};
use crate::platform::{Capabilities, Credential, Pace, Platform, Sent, Signal};
use crate::policy::{Access, AllowList, Policy, Route, Rulebook, Users};
use crate::render::{Document, RenderError};
use crate::store::sqlite::Sqlite;
use crate::store::{Enqueued, NewDelivery, Outbox};
use crate::telemetry::Metrics;

const T0: Timestamp = Timestamp(1_800_000_000_000);

/// What the platform does with one request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Turn {
    Accept,
    RateLimit(u64),
    Refuse,
    /// The bot is not in the channel any more.
    PutOut,
    /// The token is refused.
    Unauthorized,
    /// The answer is lost; the request was applied or not.
    Lose {
        applied: bool,
    },
    /// Our process dies in the middle.
    Crash {
        applied: bool,
    },
}

#[derive(Default)]
pub(super) struct World {
    pub(super) script: VecDeque<Turn>,
    /// What people see: channel, text.
    pub(super) seen: Vec<(String, String)>,
    nonces: BTreeMap<String, String>,
    /// Requests that arrived before the time the platform had named.
    too_early: usize,
    not_before: BTreeMap<String, Timestamp>,
    ambiguous: usize,
    refused: usize,
}

pub(super) struct Scripted {
    pub(super) world: Mutex<World>,
    clock: ManualClock,
    pub(super) dedupes: bool,
    /// Whether it tells what arrived, if it can be asked.
    pub(super) recalls: Option<bool>,
    pub(super) secret: Mutex<String>,
    crashed: Notify,
}

impl Scripted {
    fn see(&self, channel: &str, step: &Step) -> String {
        let mut world = self.world.lock().unwrap();
        if self.dedupes
            && let Some(id) = world.nonces.get(&step.nonce)
        {
            return id.clone();
        }
        let Action::Send { part: Part::Text(text) } = &step.action else {
            return String::new();
        };
        world.seen.push((channel.to_owned(), text.body.clone()));
        let id = format!("{}", world.seen.len());
        world.nonces.insert(step.nonce.clone(), id.clone());
        id
    }
}

#[async_trait]
impl Platform for Scripted {
    fn kind(&self) -> PlatformKind {
        PlatformKind::Slack
    }
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            dedupes: self.dedupes,
            recalls: self.recalls.is_some(),
            threads: true,
            opens_threads: false,
        }
    }
    fn pace(&self, _: &ChannelId) -> Pace {
        Pace { interval_ms: 0, burst: 1 }
    }
    fn credential(&self) -> Credential {
        let pace = Pace { interval_ms: 0, burst: 1 };
        Credential { fingerprint: self.secret.lock().unwrap().clone(), pace }
    }
    fn render(&self, _: &Document) -> Result<Vec<Part>, RenderError> {
        Err(RenderError::Empty)
    }
    fn check(&self, _: &Placement) -> Result<(), String> {
        Ok(())
    }
    fn thread_of(&self, first: &str) -> Placement {
        Placement { thread: Some(first.to_owned()), ..Placement::default() }
    }
    async fn deliver(&self, route: &Route, _: &Placement, step: &Step) -> Result<Sent, Failure> {
        let channel = route.channel().to_string();
        let turn = {
            let mut world = self.world.lock().unwrap();
            let early =
                world.not_before.get(&channel).is_some_and(|until| self.clock.now() < *until);
            world.too_early += usize::from(early);
            world.script.pop_front().unwrap_or(Turn::Accept)
        };
        let count = |field: fn(&mut World) -> &mut usize| {
            *field(&mut self.world.lock().unwrap()) += 1;
        };
        match turn {
            Turn::Accept => Ok(Sent { id: self.see(&channel, step), permalink: None }),
            Turn::RateLimit(seconds) => {
                let after = Duration::from_secs(seconds);
                let until = self.clock.now().after(after);
                self.world.lock().unwrap().not_before.insert(channel, until);
                let disposition = Disposition::Retry { after: Some(after), scope: Scope::Channel };
                Err(Failure { reason: Reason::RateLimited, disposition, hint: "slow".to_owned() })
            }
            Turn::Refuse => {
                count(|world| &mut world.refused);
                Err(Failure::give_up(Reason::Rejected, "no"))
            }
            Turn::PutOut => Err(Failure::give_up(Reason::NotInChannel, "not any more")),
            Turn::Unauthorized => Err(Failure::give_up(Reason::Auth, "set SLACK_BOT_TOKEN")),
            Turn::Lose { applied } => {
                count(|world| &mut world.ambiguous);
                if applied {
                    self.see(&channel, step);
                }
                Err(Failure::ambiguous(Reason::Timeout, "lost"))
            }
            Turn::Crash { applied } => {
                // The other lane's request dies with the process.
                count(|world| &mut world.ambiguous);
                count(|world| &mut world.ambiguous);
                if applied {
                    self.see(&channel, step);
                }
                self.crashed.notify_one();
                std::future::pending().await
            }
        }
    }
    async fn recall(
        &self,
        _: &Route,
        _: &Placement,
        step: &Step,
        since: Timestamp,
    ) -> Result<Option<Sent>, Failure> {
        assert!(since < self.clock.now());
        if self.recalls == Some(false) {
            return Err(Failure::give_up(Reason::MissingPermission, "grant channels:history"));
        }
        let id = self.world.lock().unwrap().nonces.get(&step.nonce).cloned();
        Ok(id.map(|id| Sent { id, permalink: None }))
    }

    async fn signal(&self, _: &Route, _: &Placement, _: &Signal) -> Result<(), Failure> {
        Ok(())
    }

    async fn fetch(&self, _: &Attachment, _: usize) -> Result<Vec<u8>, Failure> {
        Ok(Vec::new())
    }

    async fn describe(&self, _: &ChannelId) -> Result<ChannelInfo, Failure> {
        Err(Failure::give_up(Reason::Internal, ""))
    }
    async fn list(&self) -> Result<Vec<ChannelInfo>, Failure> {
        Ok(Vec::new())
    }
    async fn probe(&self) -> Result<Identity, Failure> {
        Err(Failure::give_up(Reason::Internal, ""))
    }
}

pub(super) struct Bench {
    pub(super) clock: ManualClock,
    pub(super) platform: Arc<Scripted>,
    pub(super) outbox: Arc<Sqlite>,
    rules: Rulebook,
    on_unknown: OnUnknown,
}

impl Bench {
    pub(super) async fn new(script: &[Turn], dedupes: bool, on_unknown: OnUnknown) -> Self {
        let clock = ManualClock::at(T0);
        let world = World { script: script.iter().copied().collect(), ..World::default() };
        let crashed = Notify::new();
        let platform = Scripted {
            world: Mutex::new(world),
            clock: clock.clone(),
            dedupes,
            recalls: None,
            secret: Mutex::default(),
            crashed,
        };
        let any = AllowList::parse(PlatformKind::Slack, ["*"]).unwrap();
        Self {
            platform: Arc::new(platform),
            outbox: Arc::new(Sqlite::in_memory().await.unwrap()),
            rules: Policy::new(BTreeMap::from([(PlatformKind::Slack, any)])).into(),
            clock,
            on_unknown,
        }
    }

    pub(super) fn worker(&self, process: &str) -> Worker {
        let platform: Arc<dyn Platform> = self.platform.clone();
        let settings = Settings {
            process: process.to_owned(),
            own_only: false,
            on_unknown: self.on_unknown,
            backoff: Duration::from_secs(1),
            probe: Duration::from_secs(30),
        };
        Worker::new(
            self.outbox.clone(),
            BTreeMap::from([(PlatformKind::Slack, platform)]),
            self.rules.clone(),
            Arc::default(),
            Arc::new(self.clock.clone()),
            Metrics::default(),
            settings,
        )
    }

    pub(super) async fn queue(
        &self,
        channel: &str,
        parts: &[String],
        thread_key: Option<&str>,
    ) -> DeliveryId {
        let id = DeliveryId::new(T0);
        let step = |(n, text): (usize, &String)| {
            let part = Part::Text(TextPart::new(text.clone(), text.clone()));
            Step { nonce: format!("{id}-{n}"), action: Action::Send { part } }
        };
        let channel = ChannelId::new(PlatformKind::Slack, channel).unwrap();
        let steps = parts.iter().enumerate().map(step).collect();
        let deadline = T0.after(Duration::from_secs(100_000));
        let delivery = Delivery {
            thread_key: thread_key.map(str::to_owned),
            ..Delivery::new(id, ClientName::new("default"), channel.clone(), steps, T0, deadline)
        };
        let new = NewDelivery {
            delivery,
            submitter: "p".to_owned(),
            pace: self.platform.pace(&channel),
            idempotency_key: None,
            rate: crate::policy::Rate::default(),
            filtered: Vec::new(),
            content_hash: id.to_string(),
            same_since: None,
        };
        assert_eq!(self.outbox.enqueue(new).await.unwrap(), Enqueued::New);
        id
    }

    /// Ticks until nothing is due any more, moving the clock on; a crash starts a new process.
    pub(super) async fn run(&self) {
        let mut process = 0;
        let mut worker = self.worker("p0");
        for _ in 0..10_000 {
            tokio::select! {
                biased;
                () = self.platform.crashed.notified() => {
                    process += 1;
                    worker = self.worker(&format!("p{process}"));
                }
                report = worker.tick() => {
                    let pending = self.outbox.list(&crate::store::Filter {
                        states: vec![DeliveryState::Queued, DeliveryState::Sending], most: 1, ..Default::default()
                    }).await.unwrap();
                    if pending.is_empty() {
                        return;
                    }
                    if report.unwrap().claimed == 0 {
                        let who = crate::store::Claimant {
                            process: String::new(), own_only: false,
                            lease: Duration::ZERO, credentials: BTreeMap::new(),
                        };
                        let due = self.outbox.next_due(&who, &[PlatformKind::Slack]).await.unwrap().unwrap();
                        let wait = due.since(self.clock.now());
                        self.clock.advance(wait.max(Duration::from_millis(1)));
                    }
                }
            }
        }
        panic!("the queue never ran dry");
    }

    pub(super) async fn states(&self, ids: &[DeliveryId]) -> Vec<Delivery> {
        let mut all = Vec::new();
        for id in ids {
            all.push(self.outbox.delivery(*id).await.unwrap().unwrap());
        }
        all
    }
}

fn turn() -> impl Strategy<Value = Turn> {
    prop_oneof![
        4 => Just(Turn::Accept),
        2 => (1_u64..5).prop_map(Turn::RateLimit),
        1 => Just(Turn::Refuse),
        2 => any::<bool>().prop_map(|applied| Turn::Lose { applied }),
        1 => any::<bool>().prop_map(|applied| Turn::Crash { applied }),
    ]
}

/// Where `needle`'s texts first appear must be in the order in which they were submitted.
fn first_appearances(seen: &[(String, String)], channel: &str) -> Vec<usize> {
    let mut order: Vec<usize> = Vec::new();
    for (_, text) in seen.iter().filter(|(c, _)| c == channel) {
        let n = text.parse().unwrap();
        if !order.contains(&n) {
            order.push(n);
        }
    }
    order
}

fn check(script: &[Turn], dedupes: bool, on_unknown: OnUnknown) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let bench = Bench::new(script, dedupes, on_unknown).await;
        let mut ids = Vec::new();
        for n in 0..8 {
            let channel = if n % 2 == 0 { "C0A" } else { "C0B" };
            ids.push(bench.queue(channel, &[format!("{n}")], None).await);
        }
        bench.run().await;
        let deliveries = bench.states(&ids).await;
        let world = bench.platform.world.lock().unwrap();
        let count = |text: &str| world.seen.iter().filter(|(_, seen)| seen == text).count();

        assert_eq!(world.too_early, 0, "sent before the time that the platform named");
        for channel in ["slack:C0A", "slack:C0B"] {
            let order = first_appearances(&world.seen, channel);
            assert!(order.is_sorted(), "out of order in {channel}: {order:?}");
        }
        let mut twice = 0;
        for (n, delivery) in deliveries.iter().enumerate() {
            let seen = count(&n.to_string());
            match delivery.state {
                DeliveryState::Delivered => assert!(seen >= 1, "{n} was called delivered"),
                DeliveryState::Failed | DeliveryState::Unknown => {}
                other => panic!("{n} is still {other:?}"),
            }
            if delivery.state == DeliveryState::Unknown {
                let doubt = delivery.finished_at.unwrap().since(delivery.doubtful_since.unwrap());
                let settled_by_nonce = dedupes && doubt < Duration::from_secs(120);
                assert!(!settled_by_nonce, "repeating the nonce would have settled it");
            }
            twice += seen.saturating_sub(1);
        }
        let failed = deliveries.iter().filter(|d| d.state == DeliveryState::Failed).count();
        assert!(failed <= world.refused, "only a refusal may end a delivery");
        if dedupes || on_unknown == OnUnknown::Hold {
            assert_eq!(twice, 0, "{:?}", world.seen);
        }
        assert!(twice <= world.ambiguous);
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn nothing_is_lost_or_overtaken(
        script in prop::collection::vec(turn(), 0..24),
        dedupes: bool,
        hold: bool,
    ) {
        check(&script, dedupes, if hold { OnUnknown::Hold } else { OnUnknown::Resend });
    }
}

#[tokio::test]
async fn a_long_message_continues_in_its_own_thread_and_resumes_where_it_stopped() {
    let script = [Turn::Accept, Turn::Crash { applied: false }, Turn::Accept];
    let bench = Bench::new(&script, false, OnUnknown::Resend).await;
    let id = bench.queue("C0A", &["1".to_owned(), "2".to_owned()], None).await;
    bench.run().await;
    let delivery = &bench.states(&[id]).await[0];
    assert_eq!(delivery.state, DeliveryState::Delivered);
    let threads: Vec<_> = delivery.messages.iter().map(|m| m.thread.as_deref()).collect();
    assert_eq!(threads, [None, Some("1")]);
    assert_eq!(bench.platform.world.lock().unwrap().seen.len(), 2, "the first part went once");
    assert_eq!(delivery.warnings.len(), 1, "{:?}", delivery.warnings);
}

#[tokio::test]
async fn messages_with_one_thread_key_share_a_thread() {
    let bench = Bench::new(&[], false, OnUnknown::Resend).await;
    let first = bench.queue("C0A", &["1".to_owned()], Some("incident-42")).await;
    let second = bench.queue("C0A", &["2".to_owned()], Some("incident-42")).await;
    let other = bench.queue("C0B", &["3".to_owned()], Some("incident-42")).await;
    bench.run().await;
    let deliveries = bench.states(&[first, second, other]).await;
    let root = deliveries[0].messages[0].id.clone();
    assert_eq!(deliveries[1].messages[0].thread.as_deref(), Some(&*root));
    assert_eq!(deliveries[2].messages[0].thread, None, "another channel is another thread");
}

#[tokio::test]
async fn with_hold_an_ambiguous_send_is_unknown_and_the_next_one_goes_on() {
    let bench = Bench::new(&[Turn::Lose { applied: true }], false, OnUnknown::Hold).await;
    let first = bench.queue("C0A", &["1".to_owned()], None).await;
    let second = bench.queue("C0A", &["2".to_owned()], None).await;
    bench.run().await;
    let deliveries = bench.states(&[first, second]).await;
    assert_eq!(deliveries[0].state, DeliveryState::Unknown);
    assert!(deliveries[0].hint.as_ref().unwrap().contains("Do not send it again"));
    assert_eq!(deliveries[1].state, DeliveryState::Delivered);
}

#[tokio::test]
async fn a_channel_that_left_the_list_gets_nothing_that_was_queued() {
    let bench = Bench::new(&[], false, OnUnknown::Resend).await;
    let id = bench.queue("C0A", &["1".to_owned()], None).await;
    bench.rules.put(Policy::default());
    bench.run().await;
    let delivery = &bench.states(&[id]).await[0];
    assert_eq!((delivery.state, delivery.reason), (DeliveryState::Failed, Some(Reason::Denied)));
    assert!(bench.platform.world.lock().unwrap().seen.is_empty());
}

#[tokio::test]
async fn an_answer_to_somebody_who_may_not_talk_to_the_agent_any_more_is_not_sent() {
    let bench = Bench::new(&[], false, OnUnknown::Resend).await;
    let (id, channel) = (DeliveryId::new(T0), ChannelId::new(PlatformKind::Slack, "C0A").unwrap());
    let part = Part::Text(TextPart::new("psst".to_owned(), "psst".to_owned()));
    let steps = vec![Step { nonce: format!("{id}-0"), action: Action::Send { part } }];
    let person = Person { id: "U0ALICE".to_owned(), name: None, outsider: false };
    let visit = Visit { channel: channel.clone(), thread: None, direct: false, person };
    let (bot, deadline) = (ClientName::new("bot"), T0.after(Duration::from_secs(100_000)));
    let delivery = Delivery {
        invitation: Some(Invitation::Answer { visit }),
        ..Delivery::new(id, bot, channel.clone(), steps, T0, deadline)
    };
    let new = NewDelivery {
        delivery,
        submitter: "p".to_owned(),
        pace: bench.platform.pace(&channel),
        idempotency_key: None,
        rate: crate::policy::Rate::default(),
        filtered: Vec::new(),
        content_hash: id.to_string(),
        same_since: None,
    };
    assert_eq!(bench.outbox.enqueue(new).await.unwrap(), Enqueued::New);
    let users = Users::parse(PlatformKind::Slack, &["U0BOB".to_owned()]).unwrap();
    let access = Access::default().users(PlatformKind::Slack, users);
    bench.rules.put(Policy::default().with_access(access));
    bench.run().await;
    let delivery = &bench.states(&[id]).await[0];
    assert_eq!((delivery.state, delivery.reason), (DeliveryState::Failed, Some(Reason::Denied)));
    assert!(bench.platform.world.lock().unwrap().seen.is_empty());
}

#[tokio::test]
async fn what_cannot_be_delivered_in_time_expires_with_the_last_failure() {
    let bench = Bench::new(&[Turn::RateLimit(200_000)], false, OnUnknown::Resend).await;
    let id = bench.queue("C0A", &["1".to_owned()], None).await;
    let worker = bench.worker("p0");
    worker.tick().await.unwrap();
    bench.clock.advance(Duration::from_secs(200_000));
    worker.tick().await.unwrap();
    let delivery = &bench.states(&[id]).await[0];
    assert_eq!((delivery.state, delivery.reason), (DeliveryState::Failed, Some(Reason::Expired)));
    assert!(delivery.hint.as_ref().unwrap().contains("slow"));
}

#[tokio::test]
async fn what_may_have_arrived_is_never_called_failed() {
    let script = [Turn::Lose { applied: true }, Turn::Refuse];
    let bench = Bench::new(&script, false, OnUnknown::Resend).await;
    let id = bench.queue("C0A", &["1".to_owned()], None).await;
    bench.run().await;
    let delivery = &bench.states(&[id]).await[0];
    assert_eq!(bench.platform.world.lock().unwrap().seen.len(), 1);
    assert_eq!(delivery.state, DeliveryState::Unknown, "{:?}", delivery.hint);
    assert!(delivery.hint.as_ref().unwrap().contains("do not send it again"));

    let bench = Bench::new(&script[..1], false, OnUnknown::Resend).await;
    let id = bench.queue("C0A", &["1".to_owned()], None).await;
    bench.worker("p0").tick().await.unwrap();
    let ended = bench.outbox.end(id, Reason::Expired, "late", T0).await.unwrap().unwrap();
    assert_eq!(ended.state, DeliveryState::Unknown, "the caller waits no longer");

    let bench = Bench::new(&script[..1], false, OnUnknown::Resend).await;
    let id = bench.queue("C0A", &["1".to_owned()], None).await;
    bench.worker("p0").tick().await.unwrap();
    bench.clock.advance(Duration::from_secs(200_000));
    bench.worker("p0").tick().await.unwrap();
    let delivery = &bench.states(&[id]).await[0];
    assert_eq!((delivery.state, delivery.reason), (DeliveryState::Unknown, Some(Reason::Expired)));
}

#[tokio::test]
async fn a_row_that_cannot_be_read_stops_its_own_lane_only() {
    let bench = Bench::new(&[], false, OnUnknown::Resend).await;
    bench.queue("C0A", &["1".to_owned()], None).await;
    bench.outbox.damage("C0A").await;
    let id = bench.queue("C0B", &["2".to_owned()], None).await;
    bench.worker("p0").tick().await.unwrap();
    assert_eq!(bench.states(&[id]).await[0].state, DeliveryState::Delivered);
}

/// A bot that can be asked what arrived, if it `tells`.
async fn recalling(script: &[Turn], tells: bool, on_unknown: OnUnknown) -> (Bench, DeliveryId) {
    let mut bench = Bench::new(script, false, on_unknown).await;
    Arc::get_mut(&mut bench.platform).unwrap().recalls = Some(tells);
    let id = bench.queue("C0A", &["1".to_owned()], None).await;
    bench.run().await;
    (bench, id)
}

#[tokio::test]
async fn what_the_history_tells_settles_a_doubt() {
    for on_unknown in [OnUnknown::Resend, OnUnknown::Hold] {
        for (applied, told) in [(true, "shows that it arrived"), (false, "did not have it")] {
            let (bench, id) = recalling(&[Turn::Lose { applied }], true, on_unknown).await;
            let delivery = &bench.states(&[id]).await[0];
            assert_eq!(delivery.state, DeliveryState::Delivered);
            assert_eq!(delivery.messages.len(), 1);
            assert_eq!(bench.platform.world.lock().unwrap().seen.len(), 1, "{delivery:?}");
            assert_eq!(delivery.warnings.len(), 1);
            assert!(delivery.warnings[0].contains(told), "{:?}", delivery.warnings);
        }
    }
}

#[tokio::test]
async fn a_history_that_may_not_be_read_leaves_it_to_the_operator() {
    let lost = [Turn::Lose { applied: true }];
    let (bench, id) = recalling(&lost, false, OnUnknown::Hold).await;
    let delivery = &bench.states(&[id]).await[0];
    assert_eq!((delivery.state, delivery.reason), (DeliveryState::Unknown, Some(Reason::Timeout)));
    assert_eq!(bench.platform.world.lock().unwrap().seen.len(), 1);

    let (bench, id) = recalling(&lost, false, OnUnknown::Resend).await;
    let delivery = &bench.states(&[id]).await[0];
    assert_eq!(delivery.state, DeliveryState::Delivered);
    assert_eq!(bench.platform.world.lock().unwrap().seen.len(), 2);
    assert!(delivery.warnings[0].contains("may appear twice"), "{:?}", delivery.warnings);

    let twice = [Turn::Lose { applied: true }, Turn::Lose { applied: true }];
    let (bench, id) = recalling(&twice, false, OnUnknown::Resend).await;
    assert_eq!(bench.states(&[id]).await[0].state, DeliveryState::Unknown, "not a third time");
}

/// Slack answers, although it does not tell.
#[tokio::test]
async fn a_history_that_may_not_be_read_is_no_failure_of_the_platform() {
    let lost = [Turn::Lose { applied: true }, Turn::Accept, Turn::Lose { applied: true }];
    let mut bench = Bench::new(&lost, false, OnUnknown::Resend).await;
    Arc::get_mut(&mut bench.platform).unwrap().recalls = Some(false);
    for text in ["1", "2"] {
        bench.queue("C0A", &[text.to_owned()], None).await;
        bench.worker("p0").tick().await.unwrap();
        bench.clock.advance(Duration::from_secs(3));
        let claims = bench.worker("p0").tick().await.unwrap().claimed;
        assert_eq!(claims, 1, "asked about");
        bench.run().await;
        let pauses = bench.outbox.pauses().await.unwrap();
        assert!(pauses.is_empty(), "{pauses:?}");
    }
    assert!(bench.clock.now().since(T0) < Duration::from_secs(20), "no breaker held it up");
}

#[tokio::test]
async fn a_refused_token_stops_its_bot_until_it_changes() {
    let bench = Bench::new(&[Turn::Unauthorized], false, OnUnknown::Resend).await;
    let ids = [
        bench.queue("C0A", &["1".to_owned()], None).await,
        bench.queue("C0B", &["2".to_owned()], None).await,
    ];
    let worker = bench.worker("p0");
    bench.platform.world.lock().unwrap().script.push_back(Turn::Unauthorized);
    for _ in 0..5 {
        worker.tick().await.unwrap();
        bench.clock.advance(Duration::from_secs(100_000));
    }
    assert_eq!(bench.platform.world.lock().unwrap().script.len(), 0, "both were on their way");
    for delivery in bench.states(&ids).await {
        assert_eq!((delivery.state, delivery.attempts), (DeliveryState::Queued, 1));
        assert!(delivery.paused.unwrap().refused.is_some());
    }
    *bench.platform.secret.lock().unwrap() = "new".to_owned();
    bench.run().await;
    for delivery in bench.states(&ids).await {
        assert_eq!((delivery.state, delivery.warnings.len()), (DeliveryState::Delivered, 0));
    }
}

#[tokio::test]
async fn a_platform_that_fails_is_asked_once_in_30_s_and_then_gets_everything() {
    let script = [Turn::Lose { applied: false }; 8];
    let mut bench = Bench::new(&script, false, OnUnknown::Resend).await;
    Arc::get_mut(&mut bench.platform).unwrap().dedupes = true;
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(bench.queue(&format!("C0{n}"), &[format!("{n}")], None).await);
    }
    let worker = bench.worker("p0");
    assert_eq!(worker.tick().await.unwrap().claimed, 5);
    let mut asked = Vec::new();
    for second in 1..=120 {
        bench.clock.advance(Duration::from_secs(1));
        let claimed = worker.tick().await.unwrap().claimed;
        if claimed > 0 {
            asked.push((second, claimed));
        }
    }
    assert_eq!(asked, [(30, 1), (60, 1), (90, 1), (120, 1)]);
    bench.run().await;
    assert!(bench.states(&ids).await.iter().all(|it| it.state == DeliveryState::Delivered));
}
