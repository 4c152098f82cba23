use std::sync::Mutex;

use async_trait::async_trait;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::*;
use crate::clock::{ManualClock, Timestamp};
use crate::model::Event;
use crate::platform::listener::{NotTaken, Taken};
use crate::platform::scripted::{self, Reply, Scripted};

const START: Timestamp = Timestamp(1_790_000_000_000);
const SECRET: &str = "8f742231b10e8888abcd99yyyzzz85a5";

#[derive(Default)]
struct Shelf {
    taken: Mutex<Vec<Event>>,
    full: Mutex<bool>,
}

#[async_trait]
impl Inbox for Shelf {
    async fn take(&self, event: Event) -> Result<Taken, NotTaken> {
        if *self.full.lock().unwrap() {
            return Err(NotTaken);
        }
        self.taken.lock().unwrap().push(event);
        Ok(Taken::Stored)
    }
}

struct Served {
    url: String,
    shelf: Arc<Shelf>,
    client: reqwest::Client,
}

async fn serve() -> Served {
    let slack = Scripted::always(Reply::json(
        200,
        json!({ "ok": true, "user_id": "U0BOT", "team_id": "T0HOME" }),
    ))
    .await;
    let config = Config {
        bot_token: Some(scripted::CANARY.into()),
        signing_secret: Some(SECRET.into()),
        api_url: Some(slack.url.clone()),
        ..Config::default()
    };
    let shelf = Arc::new(Shelf::default());
    let clock = Arc::new(ManualClock::at(START));
    let app = router(&config, &scripted::client(), shelf.clone(), clock).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/slack/events", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    Served { url, shelf, client }
}

fn sign(secret: &str, time: &str, body: &str) -> String {
    let pad = |with: u8| {
        let mut block = [with; 64];
        block.iter_mut().zip(secret.bytes()).for_each(|(place, byte)| *place ^= byte);
        block
    };
    let message = format!("v0:{time}:{body}");
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(message).finalize();
    let outer = Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize();
    let hex: String = outer.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("v0={hex}")
}

impl Served {
    fn request(&self, kind: &str, time: &str, signature: &str) -> reqwest::RequestBuilder {
        self.client
            .post(&self.url)
            .header("content-type", kind)
            .header("x-slack-request-timestamp", time)
            .header("x-slack-signature", signature)
    }

    /// Sends a body as Slack does, and returns the answer's status and text.
    async fn send(&self, kind: &str, body: &str) -> (u16, String) {
        let time = (START.0 / 1000).to_string();
        let signature = sign(SECRET, &time, body);
        let request = self.request(kind, &time, &signature).body(body.to_owned());
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    async fn json(&self, body: serde_json::Value) -> (u16, String) {
        self.send("application/json", &body.to_string()).await
    }

    fn taken(&self) -> usize {
        self.shelf.taken.lock().unwrap().len()
    }
}

fn said() -> serde_json::Value {
    json!({
        "type": "event_callback", "event_id": "Ev1", "team_id": "T0HOME",
        "event": {
            "type": "app_mention", "user": "U0ALICE", "ts": "1790000000.000100",
            "text": "<@U0BOT> hi", "channel": "C0ALERTS",
        },
    })
}

fn form(pairs: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

const FORM: &str = "application/x-www-form-urlencoded";

#[tokio::test]
async fn one_path_takes_events_commands_presses_and_slacks_own_questions() {
    let it = serve().await;
    let challenge = json!({ "type": "url_verification", "challenge": "3eZbrw1aB", "token": "x" });
    assert_eq!(it.json(challenge).await, (200, "3eZbrw1aB".to_owned()));
    assert_eq!(it.send(FORM, &form(&[("ssl_check", "1")])).await, (200, String::new()));
    let get = it.client.get(format!("{}?ssl_check=1", it.url)).send().await.unwrap();
    assert_eq!(get.status(), 200);
    assert_eq!(it.client.get(&it.url).send().await.unwrap().status(), 405);
    assert_eq!(it.taken(), 0);

    assert_eq!(it.json(said()).await, (200, String::new()));
    let command = [
        ("command", "/mykagent"),
        ("text", "hi"),
        ("user_id", "U0ALICE"),
        ("channel_id", "C0ALERTS"),
        ("team_id", "T0HOME"),
        ("trigger_id", "1.2.x"),
    ];
    assert_eq!(it.send(FORM, &form(&command)).await, (200, String::new()));
    let press = json!({
        "type": "block_actions", "trigger_id": "3.4.y", "user": { "id": "U0ALICE" },
        "channel": { "id": "C0ALERTS" }, "actions": [{ "value": "k1" }],
    });
    assert_eq!(it.send(FORM, &form(&[("payload", &press.to_string())])).await.0, 200);
    // What concerns nobody is received all the same.
    assert_eq!(it.json(json!({ "type": "app_rate_limited" })).await.0, 200);
    let taken = it.shelf.taken.lock().unwrap().clone();
    let ids: Vec<&str> = taken.iter().map(|event| &*event.id).collect();
    assert_eq!(ids, ["C0ALERTS:1790000000.000100", "1.2.x", "3.4.y"]);
    assert!(taken.iter().all(|event| event.at == START && !event.visit.person.outsider));
}

#[tokio::test]
async fn what_slack_did_not_sign_just_now_is_refused() {
    let it = serve().await;
    let body = said().to_string();
    let now = START.0 / 1000;
    let time = now.to_string();
    let right = sign(SECRET, &time, &body);
    for (why, time, signature) in [
        ("another secret", now.to_string(), sign("other", &time, &body)),
        ("another body", now.to_string(), sign(SECRET, &time, "{}")),
        ("another time", (now - 1).to_string(), right.clone()),
        ("too short", now.to_string(), right.get(..60).unwrap().to_owned()),
        ("no version", now.to_string(), right.get(3..).unwrap().to_owned()),
        ("another version", now.to_string(), right.replace("v0=", "v1=")),
        ("no hexadecimal", now.to_string(), format!("v0={}", "z".repeat(64))),
        ("empty", now.to_string(), String::new()),
        ("too old", (now - 301).to_string(), sign(SECRET, &(now - 301).to_string(), &body)),
        ("from tomorrow", (now + 301).to_string(), sign(SECRET, &(now + 301).to_string(), &body)),
        ("no time", "now".to_owned(), sign(SECRET, "now", &body)),
        ("a negative time", format!("-{now}"), sign(SECRET, &format!("-{now}"), &body)),
    ] {
        let request = it.request("application/json", &time, &signature).body(body.clone());
        assert_eq!(request.send().await.unwrap().status(), 401, "{why}");
    }
    let bare = it.client.post(&it.url).header("content-type", "application/json");
    assert_eq!(bare.body(body.clone()).send().await.unwrap().status(), 401, "no headers");
    let no_text = it.request("application/json", &time, &right).body(vec![0xff, 0xfe]);
    assert_eq!(no_text.send().await.unwrap().status(), 401, "no text");
    assert_eq!(it.taken(), 0);
    // At the edge of what is young enough, by our clock and not the machine's.
    for time in [now - 300, now + 300] {
        let signature = sign(SECRET, &time.to_string(), &body);
        let request = it.request("application/json", &time.to_string(), &signature);
        assert_eq!(request.body(body.clone()).send().await.unwrap().status(), 200);
    }
}

#[tokio::test]
async fn a_replay_is_the_same_event_again() {
    let it = serve().await;
    for _ in 0..3 {
        assert_eq!(it.json(said()).await.0, 200);
        // Without a trigger of its own a command is known by its signature.
        let command =
            form(&[("command", "/x"), ("user_id", "U0ALICE"), ("channel_id", "C0ALERTS")]);
        assert_eq!(it.send(FORM, &command).await.0, 200);
    }
    let taken = it.shelf.taken.lock().unwrap();
    let ids: std::collections::BTreeSet<&str> = taken.iter().map(|event| &*event.id).collect();
    assert_eq!((taken.len(), ids.len()), (6, 2), "{ids:?}");
}

#[tokio::test]
async fn what_is_too_large_is_refused_whether_it_says_so_or_not() {
    let it = serve().await;
    let time = (START.0 / 1000).to_string();
    let large = "x".repeat(MOST_BYTES + 1);
    let signature = sign(SECRET, &time, &large);
    // Refused by its length alone: an unsigned one is, too.
    let request = it.client.post(&it.url).body(large.clone());
    assert_eq!(request.send().await.unwrap().status(), 413);
    // Without a length it is read up to the limit.
    let chunks = large.into_bytes().chunks(64 * 1024).map(<[u8]>::to_vec).collect::<Vec<_>>();
    let (sender, receiver) = tokio::sync::mpsc::channel::<Vec<u8>>(1);
    tokio::spawn(async move {
        for chunk in chunks {
            if sender.send(chunk).await.is_err() {
                return;
            }
        }
    });
    let address = it.url.trim_start_matches("http://").split('/').next().unwrap().to_owned();
    let status = stream(&address, &time, &signature, receiver).await;
    assert!(status.starts_with("HTTP/1.1 413"), "{status}");
    let edge = "x".repeat(MOST_BYTES);
    assert_eq!(it.send("application/json", &edge).await.0, 400);
    assert_eq!(it.taken(), 0);
}

/// Sends a body without telling its length, and returns the answer's first line.
async fn stream(
    address: &str,
    time: &str,
    signature: &str,
    mut chunks: tokio::sync::mpsc::Receiver<Vec<u8>>,
) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST /slack/events HTTP/1.1\r\nhost: {address}\r\ntransfer-encoding: chunked\r\n\
         x-slack-request-timestamp: {time}\r\nx-slack-signature: {signature}\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    let (mut read, mut write) = socket.split();
    let send = async {
        while let Some(chunk) = chunks.recv().await {
            let size = format!("{:x}\r\n", chunk.len());
            for bytes in [size.as_bytes(), &chunk, b"\r\n"] {
                if write.write_all(bytes).await.is_err() {
                    return;
                }
            }
        }
        let _ = write.write_all(b"0\r\n\r\n").await;
    };
    let mut answer = [0; 64];
    let receive = read.read(&mut answer);
    let ((), received) = tokio::join!(send, receive);
    String::from_utf8_lossy(&answer[..received.unwrap()]).into_owned()
}

#[tokio::test]
async fn what_is_not_stored_is_not_received() {
    let it = serve().await;
    *it.shelf.full.lock().unwrap() = true;
    assert_eq!(it.json(said()).await.0, 503);
    *it.shelf.full.lock().unwrap() = false;
    assert_eq!(it.json(said()).await.0, 200);
    assert_eq!(it.taken(), 1);
    for wrong in ["", "{", "[]", "null"] {
        let status = it.send("application/json", wrong).await.0;
        assert!(status == 400 || status == 200, "{wrong}: {status}");
    }
    assert_eq!(it.send(FORM, "payload=%7B").await.0, 400);
    assert_eq!(it.taken(), 1);
}

#[test]
fn without_a_secret_there_is_no_endpoint() {
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(START));
    let with = |secret: Option<&str>, token: Option<&str>| {
        let config = Config {
            bot_token: token.map(Into::into),
            signing_secret: secret.map(Into::into),
            ..Config::default()
        };
        router(&config, &scripted::client(), Arc::new(Shelf::default()), clock.clone()).is_some()
    };
    assert!(with(Some(SECRET), Some("xoxb-1")));
    assert!(!with(None, Some("xoxb-1")));
    assert!(!with(Some(" "), Some("xoxb-1")));
    assert!(!with(Some(SECRET), None));
}
