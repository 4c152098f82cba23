//! Entry points of the fuzzers: what Slack posts, and what it says through Socket Mode.

#![expect(clippy::unwrap_used, reason = "a panic is a finding")]

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::{HeaderValue, Request, StatusCode};
use secrecy::SecretString;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tower::ServiceExt;
use url::Url;

use super::api::Api;
use super::events::{self, Endpoint};
use super::home::Finder;
use super::inbound::Home;
use super::listener::Timing;
use super::origin::Origins;
use super::socket_mode::{Lanes, Wiring};
use crate::clock::ManualClock;
use crate::model::{Event, ResponseUrl};
use crate::platform::fuzzing::{NOW, Shelf, block_on, client};
use crate::platform::listener::Inbox;

const SECRET: &str = "8f742231b10e8888abcd99yyyzzz85a5";
/// The most frames of one input.
const MOST_FRAMES: usize = 64;

fn home() -> Home {
    Home { user: "U0BOT".to_owned(), team: Some("T0HOME".to_owned()), ..Home::default() }
}

fn base() -> Url {
    "https://slack.com/api/".parse().unwrap()
}

/// A request: on its first line the content type, the time and the signature, with `|` between them; below it the body.
/// `right` stands for the signature that fits, and `now` for the time.
///
/// Nothing comes of what Slack did not sign, and nothing bad of what it did.
pub(crate) fn events(data: &[u8]) {
    let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let (head, body) = data.split_at(end);
    let body = body.strip_prefix(b"\n").unwrap_or(body);
    let Ok(head) = std::str::from_utf8(head) else { return };
    let mut head = head.splitn(3, '|');
    let mut next = || head.next().unwrap_or_default();
    let (kind, time, signature) = (next(), next(), next());
    let now = (NOW.0 / 1000).to_string();
    let time = if time == "now" { &now } else { time };
    let right = sign(time, body);
    let signature = if signature == "right" { &right } else { signature };

    let mut request = Request::post("/slack/events");
    for (name, value) in [
        ("content-type", kind),
        ("x-slack-request-timestamp", time),
        ("x-slack-signature", signature),
    ] {
        let Ok(value) = HeaderValue::from_str(value) else { return };
        request = request.header(name, value);
    }
    let shelf = Arc::new(Shelf::default());
    let endpoint = Endpoint {
        secret: SecretString::from(SECRET),
        finder: Finder::knowing(Api::new(client(), base(), "xoxb-1".into()), home()),
        origins: Origins::new(base()),
        inbox: shelf.clone(),
        clock: Arc::new(ManualClock::at(NOW)),
        bodies: events::bodies(),
    };
    let request = request.body(Body::from(body.to_vec())).unwrap();
    let answer = block_on(events::route(endpoint).oneshot(request)).unwrap().status();

    let digits = (1..=12).contains(&time.len()) && time.bytes().all(|byte| byte.is_ascii_digit());
    let recent = digits && time.parse::<i64>().unwrap().abs_diff(NOW.0 / 1000) <= 300;
    let signed = signature.starts_with("v0=") && signature.eq_ignore_ascii_case(&right);
    if recent && signed && std::str::from_utf8(body).is_ok() {
        assert!(matches!(answer, StatusCode::OK | StatusCode::BAD_REQUEST), "{answer}");
        judge(&shelf.emptied());
    } else {
        assert_eq!(
            (answer, shelf.emptied()),
            (StatusCode::UNAUTHORIZED, vec![]),
            "it is not signed"
        );
    }
}

/// The bot does not hear itself, and answers nowhere but at Slack.
fn judge(events: &[Event]) {
    for event in events {
        assert_ne!(event.visit.person.id, home().user, "{event:?}");
        let url = event.respond.as_ref().map(ResponseUrl::expose);
        assert!(url.is_none_or(|url| Origins::new(base()).answers(url).is_some()), "{url:?}");
    }
}

/// HMAC-SHA256, by hand: <https://docs.slack.dev/authentication/verifying-requests-from-slack>.
fn sign(time: &str, body: &[u8]) -> String {
    let pad = |with: u8| {
        let mut block = [with; 64];
        block.iter_mut().zip(SECRET.bytes()).for_each(|(place, byte)| *place ^= byte);
        block
    };
    let message = [format!("v0:{time}:").as_bytes(), body].concat();
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(message).finalize();
    let outer = Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize();
    let hex: String = outer.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("v0={hex}")
}

/// Frames of Socket Mode, one on each line. Each envelope is acknowledged, once.
pub(crate) fn socket(data: &[u8]) {
    let frames = data.split(|byte| *byte == b'\n').take(MOST_FRAMES);
    let frames: Vec<&str> = frames.filter_map(|frame| std::str::from_utf8(frame).ok()).collect();
    let (mut wanted, mut told) = block_on(async {
        let shelf = Arc::new(Shelf::default());
        let inbox: Arc<dyn Inbox> = shelf.clone();
        let wiring = Wiring {
            home: home(),
            origins: Origins::new(base()),
            clock: Arc::new(ManualClock::at(NOW)),
            timing: Timing::default(),
            lanes: Lanes::new(&inbox),
        };
        let (acks, mut stored) = mpsc::unbounded_channel();
        let mut wanted = Vec::new();
        for frame in frames {
            let note = wiring.told(frame, &acks);
            if let Some(envelope) = envelope(frame) {
                assert_eq!(note, None, "{frame}");
                wanted.push(envelope);
            }
        }
        // Whoever still stores an event holds a sender; after the last of them the channel ends.
        drop(acks);
        let mut told = Vec::new();
        let all = async { while stored.recv().await.map(|it| told.push(it)).is_some() {} };
        tokio::time::timeout(Duration::from_secs(10), all).await.unwrap();
        judge(&shelf.emptied());
        (wanted, told)
    });
    wanted.sort_unstable();
    told.sort_unstable();
    assert_eq!(told, wanted, "acknowledged");
}

/// The ID by which a frame has to be acknowledged.
fn envelope(frame: &str) -> Option<String> {
    let frame: Value = serde_json::from_str(frame).ok()?;
    let word = |name: &str| frame.get(name).and_then(Value::as_str);
    let waits = !matches!(word("type")?, "hello" | "disconnect");
    word("envelope_id").filter(|_| waits).map(str::to_owned)
}
