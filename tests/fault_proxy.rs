//! What people see while everything between Herald and the platforms goes wrong.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use crate::lanes::{
    LANES, OnUnknown, OnUnknown::Hold, OnUnknown::Resend, env, forget_history, judge,
};
use crate::proxy::{Break, End, Heard, Proxy, Record, Treatment, lane_of, note};
use crate::world::{Client, Options, Server, Workspace, message};

/// For so long everything may take.
const PATIENCE: Duration = Duration::from_secs(150);

/// A channel after everything came to its end.
#[derive(Debug)]
struct Lane {
    channel: &'static str,
    accepted: Vec<String>,
    /// What the sender hears of each.
    told: Vec<String>,
    /// What people see.
    seen: Vec<String>,
    /// What went through the proxy.
    heard: Vec<Heard>,
    ran: Ran,
}

/// What a world was like.
#[derive(Clone, Copy, Debug)]
struct Ran {
    on_unknown: OnUnknown,
    /// Slack's bot may look into the history of its channels.
    history: bool,
    /// So many connections are reset before anything is read from them.
    slams: usize,
}

impl Ran {
    const fn new(on_unknown: OnUnknown) -> Self {
        Self { on_unknown, history: false, slams: 0 }
    }

    const fn with_history(on_unknown: OnUnknown) -> Self {
        Self { history: true, ..Self::new(on_unknown) }
    }
}

impl Lane {
    fn is(&self, platform: &str) -> bool {
        self.channel.starts_with(platform)
    }

    /// Its platform tells whether it has a message, or recognises one that it has.
    fn is_certain(&self) -> bool {
        self.is("discord") || (self.is("slack") && self.ran.history)
    }

    fn times_seen(&self, note: &str) -> usize {
        self.seen.iter().filter(|text| *text == note).count()
    }

    /// The promises that were broken here.
    fn broken(&self) -> Vec<String> {
        let Ran { on_unknown, slams, .. } = self.ran;
        let judgement = judge(&self.accepted, &self.seen);
        let mut broken = Vec::new();
        let mut unless = |kept: bool, what: String| {
            if !kept {
                broken.push(format!("{}: {what}", self.channel));
            }
        };
        unless(judgement.out_of_order.is_empty(), format!("disordered: {:?}", self.seen));
        unless(judgement.strange.is_empty(), format!("strange: {:?}", judgement.strange));
        for (note, told) in self.accepted.iter().zip(&self.told) {
            let tries: Vec<&Treatment> = self
                .heard
                .iter()
                .filter(|heard| heard.note == *note)
                .map(|heard| &heard.done)
                .collect();
            let doubts = tries.iter().filter(|it| it.is_ambiguous()).count() + slams.min(1);
            let perhaps = tries.iter().filter(|it| it.is_ambiguous() || it.answers()).count();
            let seen = self.times_seen(note);
            let story = format!("{note} {told}, seen {seen} times: {tries:?}");
            match told.as_str() {
                "delivered" => unless(seen > 0, format!("lost: {story}")),
                "unknown" => {
                    unless(doubts > 0, format!("no reason to doubt: {story}"));
                    unless(!self.is_certain(), format!("not recognised: {story}"));
                    let given_up = on_unknown == Hold || doubts > 1;
                    unless(given_up, format!("not repeated: {story}"));
                }
                _ => unless(false, format!("not brought to its end: {story}")),
            }
            if self.is_certain() {
                unless(seen <= 1, format!("twice: {story}"));
            } else if on_unknown == Hold {
                unless(seen <= 1, format!("twice: {story}"));
                let doubtful = tries.iter().position(|it| it.is_ambiguous());
                let resent = doubtful.is_some_and(|at| at + 1 < tries.len());
                unless(!resent, format!("resent: {story}"));
            } else {
                unless(perhaps <= 2, format!("repeated more than once: {story}"));
                unless(seen <= 1 + doubts.min(1), format!("twice: {story}"));
            }
        }
        broken
    }
}

/// So many messages through a proxy with this script, in each of these channels, and what became of them.
async fn through(
    ran: Ran,
    lanes: &[usize],
    each: usize,
    script: impl FnMut(&Heard) -> Treatment + Send + 'static,
) -> Vec<Lane> {
    let workspace = Workspace::open().await;
    if !ran.history {
        forget_history(&workspace);
    }
    let record = Record::new(script);
    let proxy = Proxy::open(&workspace, &record).await;
    proxy.slam(ran.slams);
    let data = tempfile::tempdir().unwrap();
    let env = env(&workspace, &proxy, ran.on_unknown);
    let env: Vec<(&str, &str)> = env.iter().map(|(name, value)| (&**name, &**value)).collect();
    let mut config = workspace.config(&env);
    // Five failures in a row pause a bot.
    config.delivery.probe_ms = 500;
    let server = Server::with(Options {
        data_dir: Some(data.path().to_owned()),
        // Nobody waits for a message before the next one.
        wait: Duration::ZERO,
        config,
    })
    .await;
    let client = &server.client;
    let filled = lanes.iter().map(|lane| async move {
        let mut ids = Vec::new();
        for n in 0..each {
            let (tool, arguments) = message(LANES[*lane], &note(*lane, n), json!({}));
            let answer = client.call(&tool, arguments).await;
            assert!(!answer.failed, "{answer:?}");
            ids.push(answer.content["delivery_id"].clone());
        }
        (*lane, ids)
    });
    let filled = futures_util::future::join_all(filled).await;
    let mut found = Vec::new();
    for (lane, ids) in filled {
        let mut told = Vec::new();
        for id in ids {
            let ended = tokio::time::timeout(PATIENCE, ended(client, &id)).await;
            told.push(ended.unwrap_or_else(|_| panic!("{id} in {} does not end", LANES[lane])));
        }
        let heard = record.heard().into_iter();
        found.push(Lane {
            channel: LANES[lane],
            accepted: (0..each).map(|n| note(lane, n)).collect(),
            told,
            seen: workspace.texts(LANES[lane]),
            heard: heard.filter(|it| lane_of(&it.note) == lane).collect(),
            ran,
        });
    }
    server.stop().await;
    found
}

/// What the sender hears of a message at last.
async fn ended(client: &Client, id: &Value) -> String {
    loop {
        let answer = client.call("get_delivery", json!({ "delivery_id": id })).await;
        let status = answer.content["status"].as_str().unwrap();
        if status != "queued" {
            return status.to_owned();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Two channels of each platform.
const TWO: [usize; 6] = [0, 1, 3, 4, 6, 7];

/// Three messages in each, the second of which this happens to when it is sent first.
async fn struck(ran: Ran, fault: Treatment) -> Vec<Lane> {
    let script = move |heard: &Heard| {
        let second = heard.note.ends_with("0001");
        if second && heard.before == 0 { fault.clone() } else { Treatment::PASS }
    };
    let lanes = through(ran, &TWO, 3, script).await;
    kept(&lanes);
    lanes
}

/// No promise was broken.
fn kept(lanes: &[Lane]) {
    let broken: Vec<String> = lanes.iter().flat_map(Lane::broken).collect();
    assert!(broken.is_empty(), "{:?}:\n{}", lanes[0].ran, broken.join("\n"));
}

/// How often people see the message that was struck, and what its sender hears, on each platform.
fn expect(lanes: &[Lane], platforms: [(usize, &str); 3]) {
    for (platform, (seen, told)) in ["slack", "discord", "telegram"].into_iter().zip(platforms) {
        for lane in lanes.iter().filter(|lane| lane.is(platform)) {
            let second = &lane.accepted[1];
            let found = (lane.times_seen(second), lane.told[1].as_str());
            assert_eq!(found, (seen, told), "{}: {:?}", lane.channel, lane.heard);
            assert_eq!([&lane.told[0], &lane.told[2]], ["delivered"; 2], "the others are not");
        }
    }
}

/// The fault with either policy, at once.
async fn both(fault: Treatment) -> (Vec<Lane>, Vec<Lane>) {
    // On the heap: what Herald is put together from is large, and many of these run at once.
    tokio::join!(
        Box::pin(struck(Ran::new(Resend), fault.clone())),
        Box::pin(struck(Ran::new(Hold), fault))
    )
}

const ONCE: (usize, &str) = (1, "delivered");
const TWICE: (usize, &str) = (2, "delivered");
const MISSING: (usize, &str) = (0, "unknown");
const IN_DOUBT: (usize, &str) = (1, "unknown");

/// What becomes of a fault after which the message is there, and nobody knows.
async fn there_and_nobody_knows(fault: Treatment) {
    let (resend, hold) = both(fault).await;
    expect(&resend, [TWICE, ONCE, TWICE]);
    expect(&hold, [IN_DOUBT, ONCE, IN_DOUBT]);
}

/// What becomes of a fault after which the message is not there, and nobody knows.
async fn missing_and_nobody_knows(fault: Treatment) {
    let (resend, hold) = both(fault).await;
    expect(&resend, [ONCE; 3]);
    expect(&hold, [MISSING, ONCE, MISSING]);
}

async fn harmless(fault: Treatment) -> Vec<Lane> {
    let (resend, hold) = both(fault).await;
    expect(&resend, [ONCE; 3]);
    expect(&hold, [ONCE; 3]);
    hold
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn latency_changes_nothing() {
    harmless(Treatment::late(Duration::from_millis(1500))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_before_the_platform_has_the_request() {
    missing_and_nobody_knows(Treatment::lost(Break::Reset)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_after_the_platform_applied_the_request() {
    there_and_nobody_knows(Treatment::swallowed(false, Break::Reset)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_in_the_middle_of_the_answer() {
    there_and_nobody_knows(Treatment::swallowed(true, Break::Reset)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_half_closed_connection_before_the_platform_has_the_request() {
    missing_and_nobody_knows(Treatment::lost(Break::HalfClose)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_half_closed_connection_after_the_platform_applied_the_request() {
    there_and_nobody_knows(Treatment::swallowed(true, Break::HalfClose)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_swallowed() {
    there_and_nobody_knows(Treatment::swallowed(false, Break::Silence)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_is_swallowed() {
    missing_and_nobody_knows(Treatment::lost(Break::Silence)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_drips_is_read_to_its_end() {
    harmless(Treatment::drip(Duration::from_millis(2))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_drips_for_longer_than_anybody_waits() {
    there_and_nobody_knows(Treatment::drip(Duration::from_secs(1))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kept_connection_that_is_closed_after_an_answer() {
    harmless(Treatment { end: End::AnswerAndClose, ..Treatment::PASS }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_break_before_anything_is_read() {
    // The first of each channel.
    for on_unknown in [Resend, Hold] {
        let ran = Ran { slams: TWO.len(), ..Ran::new(on_unknown) };
        kept(&through(ran, &TWO, 2, |_| Treatment::PASS).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_error_says_nothing_about_the_message() {
    let html = "<html><body>Bad Gateway</body></html>";
    let bodies = [(500, ""), (502, html), (503, "{}"), (504, html)];
    let runs = bodies.map(|(status, body)| {
        missing_and_nobody_knows(Treatment::own(status, &[("retry-after", "1")], body))
    });
    futures_util::future::join_all(runs).await;
}

/// Where Slack's bot may look into the history, nothing that is there is repeated, and nothing that is not is given up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slacks_history_settles_what_nobody_knows() {
    let faults = [
        Treatment::lost(Break::Reset),
        Treatment::swallowed(false, Break::Reset),
        Treatment::swallowed(true, Break::HalfClose),
        Treatment::own(502, &[], "<html></html>"),
    ];
    let runs = faults.into_iter().flat_map(|fault| {
        [Resend, Hold].map(|on_unknown| {
            let fault = fault.clone();
            Box::pin(async move {
                for lane in struck(Ran::with_history(on_unknown), fault).await {
                    if lane.is("slack") {
                        assert_eq!(
                            (lane.seen, lane.told),
                            (lane.accepted, vec!["delivered".to_owned(); 3])
                        );
                    }
                }
            })
        })
    });
    futures_util::future::join_all(runs).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_down_is_heeded_however_it_is_said() {
    let least = |millis| Duration::from_millis(millis);
    type Said = (&'static [(&'static str, &'static str)], &'static str, Duration);
    let waits: [Said; 8] = [
        (&[("Retry-After", "1")], "", least(1000)),
        (&[("retry-after", "1.5")], "slow down", least(1500)),
        (&[("retry-after", "0")], "", least(0)),
        (&[], "<html>Too Many Requests</html>", least(0)),
        (&[("retry-after", "soon")], "", least(0)),
        (&[("retry-after", "-3")], "", least(0)),
        (&[("retry-after", "1e300")], "", least(0)),
        (&[("retry-after", "Thu, 01 Jan 1970 00:00:00 GMT")], "{}", least(0)),
    ];
    let runs = waits.map(|(headers, body, least)| async move {
        for lane in harmless(Treatment::own(429, headers, body)).await {
            let tries: Vec<Instant> = lane
                .heard
                .iter()
                .filter(|heard| heard.note == lane.accepted[1])
                .map(|heard| heard.at)
                .collect();
            let [refused, repeated] = tries[..] else { panic!("{tries:?}") };
            assert!(repeated - refused >= least, "{headers:?}: {:?}", repeated - refused);
        }
    });
    futures_util::future::join_all(runs).await;
}

/// Whoever fails again and again is tried now and then, so that little gets into doubt; the others go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_platform_that_fails_for_a_while_pauses_alone() {
    const OUTAGE: Duration = Duration::from_secs(4);
    let mut since = None;
    let script = move |heard: &Heard| {
        let telegram = LANES[lane_of(&heard.note)].starts_with("telegram");
        let out = telegram && since.get_or_insert(heard.at).elapsed() < OUTAGE;
        if out { Treatment::own(503, &[], "") } else { Treatment::PASS }
    };
    let lanes: Vec<usize> = (0..LANES.len()).collect();
    let lanes = through(Ran::new(Hold), &lanes, 12, script).await;
    kept(&lanes);
    let unknown = |lane: &Lane| lane.told.iter().filter(|told| *told == "unknown").count();
    let in_doubt = lanes.iter().map(unknown).sum::<usize>();
    let elsewhere = lanes.iter().filter(|lane| !lane.is("telegram")).map(unknown).sum::<usize>();
    // Five in a row, what was under way beside them, and one each half second.
    assert!((5..=5 + 3 + 9).contains(&in_doubt), "{in_doubt}");
    assert_eq!(elsewhere, 0);
}

/// The vendors' own words, in which the wait stands in the body.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_down_in_the_platforms_own_words() {
    let script = |heard: &Heard| {
        let note = heard.note.as_str();
        if heard.before > 0 || !note.ends_with("0001") {
            return Treatment::PASS;
        }
        match lane_of(note) {
            0..3 => Treatment::own(
                429,
                &[("retry-after", "2")],
                r#"{"ok":false,"error":"ratelimited"}"#,
            ),
            3..6 => Treatment::own(
                429,
                &[("retry-after", "1")],
                r#"{"message":"You are being rate limited.","retry_after":2.0,"global":false}"#,
            ),
            _ => Treatment::own(
                429,
                &[],
                r#"{"ok":false,"error_code":429,"description":"Too Many Requests: retry after 2","parameters":{"retry_after":2}}"#,
            ),
        }
    };
    let lanes = through(Ran::new(Hold), &TWO, 3, script).await;
    kept(&lanes);
    for lane in &lanes {
        assert_eq!(lane.seen, lane.accepted);
        let tries: Vec<&Heard> =
            lane.heard.iter().filter(|it| it.note == lane.accepted[1]).collect();
        let waited = tries[1].at - tries[0].at;
        assert!(waited >= Duration::from_secs(2), "{}: {waited:?}", lane.channel);
    }
}

/// Anything at any time, as often in a row as it happens; the same seed does the same to the same try of the same message.
fn anything(seed: u64) -> impl FnMut(&Heard) -> Treatment + Send + 'static {
    move |heard| {
        let note = heard.note.as_str();
        let mut hasher = DefaultHasher::new();
        (seed, note, heard.before).hash(&mut hasher);
        let mut random = StdRng::seed_from_u64(hasher.finish());
        if random.random_bool(0.6) {
            return Treatment::PASS;
        }
        let how = if random.random() { Break::Reset } else { Break::HalfClose };
        match random.random_range(0..8) {
            0 => Treatment::late(Duration::from_millis(random.random_range(1..300))),
            1 => Treatment::drip(Duration::from_micros(500)),
            2 => Treatment { end: End::AnswerAndClose, ..Treatment::PASS },
            3 => Treatment::lost(how),
            4 => Treatment::swallowed(false, how),
            5 => Treatment::swallowed(true, how),
            6 => {
                let waits = ["0", "0.2", "1", "soon", "-1", "Thu, 01 Jan 1970 00:00:00 GMT"];
                let wait = waits[random.random_range(0..waits.len())];
                Treatment::own(429, &[("retry-after", wait)], "")
            }
            _ => Treatment::own(random.random_range(500..505), &[], "<html></html>"),
        }
    }
}

/// `HERALD_FAULT_SEED` repeats a run; `HERALD_FAULT_ROUNDS` makes more of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happens_nothing_is_lost_and_nothing_is_repeated_blindly() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let first = number("HERALD_FAULT_SEED").unwrap_or_else(rand::random);
    for seed in (0..number("HERALD_FAULT_ROUNDS").unwrap_or(2)).map(|n| first.wrapping_add(n)) {
        eprintln!("HERALD_FAULT_SEED={seed}");
        let lanes: Vec<usize> = (0..LANES.len()).collect();
        let history = seed.is_multiple_of(2);
        let ran = |on_unknown| Ran { history, ..Ran::new(on_unknown) };
        let (resend, hold) = tokio::join!(
            through(ran(Resend), &lanes, 12, anything(seed)),
            through(ran(Hold), &lanes, 12, anything(seed)),
        );
        kept(&resend);
        kept(&hold);
        let faults = resend.iter().chain(&hold).flat_map(|lane| &lane.heard);
        assert!(faults.filter(|heard| heard.done.is_ambiguous()).count() > 10, "too gentle");
    }
}

/// Promises that are broken on purpose are found broken.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_planted_mistake_is_found() {
    let doubling = |_: &Heard| Treatment { applied: 2, ..Treatment::PASS };
    let lanes = through(Ran::new(Hold), &TWO, 2, doubling).await;
    for lane in &lanes {
        let broken = lane.broken();
        // Discord recognises what is repeated.
        assert_eq!(broken.is_empty(), lane.is("discord"), "{broken:?}");
    }
}
