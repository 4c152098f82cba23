//! What the way in asks of Discord's REST API.

use std::time::Duration;

use serde_json::json;

use std::sync::Arc;

use super::super::events::{Heard, Servers, What, read};
use super::super::interactions::{answer, register};
use super::super::listener::{Gateway, Timing};
use super::*;
use crate::clock::SystemClock;
use crate::model::{Button, ButtonStyle, CardPart, FilePart, TextPart};
use crate::platform::listener::{Cursor, Ears, Inbox, Listener, NotTaken, Standing, Taken};

fn card() -> Part {
    let text = TextPart::new("sure?", "sure?");
    let button = |key: &str, style| Button { key: key.to_owned(), label: "Go".to_owned(), style };
    Part::Card(CardPart {
        text,
        rows: vec![vec![
            button("a", ButtonStyle::Good),
            button("b", ButtonStyle::Danger),
            button("c", ButtonStyle::Plain),
        ]],
    })
}

#[tokio::test]
async fn a_cards_buttons_are_components() {
    let world = server().await;
    let discord = discord(&world);
    let here = Placement::default();
    deliver(&discord, &here, &step(Action::Send { part: card() })).await.unwrap();
    let message_id = "555".to_owned();
    let signal = Signal::Edit { message_id, part: card() };
    discord.signal(&scripted::route(CHANNEL), &here, &signal).await.unwrap();
    let button = |style, key| json!({"type": 2, "style": style, "label": "Go", "custom_id": key});
    let row = [button(3, "a"), button(4, "b"), button(2, "c")];
    let (posted, edited) = (&world.asked("/messages")[0], &world.asked("/messages/555")[0]);
    for seen in [posted, edited] {
        assert_eq!(seen.json()["components"], json!([{"type": 1, "components": row}]));
        assert_eq!(seen.json()["allowed_mentions"], json!({"parse": []}));
    }
    assert_eq!(posted.json()["nonce"], "nonce-1");
}

fn file(mime: &str, base64: &str) -> Step {
    let (name, mime, base64) = ("a.txt".to_owned(), mime.to_owned(), base64.to_owned());
    step(Action::Send { part: Part::File(FilePart { name, mime, base64, held_to: None }) })
}

#[tokio::test]
async fn a_file_travels_beside_its_nonce() {
    let world = server().await;
    let discord = discord(&world);
    for mime in ["text/plain", "no media type", ""] {
        deliver(&discord, &Placement::default(), &file(mime, "aGVsbG8=")).await.unwrap();
    }
    let seen = world.asked("/messages");
    let body = &seen[0].body;
    assert!(seen[0].header("content-type").starts_with("multipart/form-data; boundary="));
    assert_eq!(seen[0].header("authorization"), format!("Bot {CANARY}"));
    for expected in [
        "name=\"payload_json\"",
        "\"nonce\":\"nonce-1\",\"enforce_nonce\":true",
        "name=\"files[0]\"; filename=\"a.txt\"",
        "text/plain",
        "hello",
    ] {
        assert!(body.contains(expected), "{expected}: {body}");
    }
    assert!(seen[1].body.contains("application/octet-stream"));
    let broken = deliver(&discord, &Placement::default(), &file("text/plain", "§")).await;
    let failure = scripted::failure(PlatformKind::Discord, broken);
    assert_eq!((failure.reason, world.asked("/messages").len()), (Reason::Internal, 3));
}

#[tokio::test]
async fn a_signal_is_sent_once_and_its_failure_classified() {
    let limited = json!({"message": "slow", "retry_after": 3.5, "global": false});
    let world = Scripted::always(Reply::json(429, limited)).await;
    let discord = discord(&world);
    let typing =
        discord.signal(&scripted::route(CHANNEL), &Placement::default(), &Signal::Typing).await;
    let failure = scripted::failure(PlatformKind::Discord, typing);
    let after = Some(Duration::from_secs_f64(3.5));
    assert_eq!(failure.disposition, Disposition::Retry { after, scope: Scope::Channel });
    let asked = world.asked("/channels/100000000000000001/typing");
    assert_eq!((asked.len(), asked[0].method.as_str()), (1, "POST"));
    assert_eq!(asked[0].header("content-length"), "0");
}

fn attached(source: &str, size: Option<u64>) -> Attachment {
    let (name, mime) = ("a".to_owned(), "text/plain".to_owned());
    Attachment { name, mime, size, source: source.to_owned() }
}

#[tokio::test]
async fn files_are_read_from_discords_own_servers_without_the_token() {
    let world = Scripted::new(|seen| match seen.path.as_str() {
        "/cdn/ok" => Reply::text(200, "hello"),
        "/cdn/moved" => Reply::text(302, "").with("location", "http://127.0.0.1:9/secret"),
        "/cdn/down" => Reply::text(503, scripted::hostile()),
        _ => Reply::text(404, scripted::hostile()),
    })
    .await;
    let discord = discord(&world);
    let at = |path: &str| world.url.join(path).unwrap().to_string();
    assert_eq!(discord.fetch(&attached(&at("/cdn/ok"), None), 5).await.unwrap(), b"hello");
    assert_eq!(world.asked("/cdn/ok")[0].header("authorization"), "");
    for (path, most, reason) in [
        ("/cdn/ok", 4, Reason::TooLong),
        ("/cdn/moved", 5, Reason::InvalidAnswer),
        ("/cdn/down", 5, Reason::ServerError),
        ("/cdn/gone", 5, Reason::MessageNotFound),
    ] {
        let result = discord.fetch(&attached(&at(path), None), most).await;
        assert_eq!(scripted::failure(PlatformKind::Discord, result).reason, reason, "{path}");
    }
    let port = world.url.port().unwrap();
    for elsewhere in [
        "https://evil.example/cdn.discordapp.com",
        "http://cdn.discordapp.com/plain",
        "https://cdn.discordapp.com:444/x",
        "https://cdn.discordapp.com.evil.example/x",
        "https://user:pass@cdn.discordapp.com/x",
        "file:///etc/passwd",
        "http://169.254.169.254/latest",
        &format!("http://localhost:{port}/cdn/ok"),
        "http://127.0.0.1:1/cdn/ok",
        "nonsense",
    ] {
        let result = discord.fetch(&attached(elsewhere, None), 5).await;
        let failure = scripted::failure(PlatformKind::Discord, result);
        assert_eq!(failure.reason, Reason::Denied, "{elsewhere}");
    }
    assert_eq!(world.asked("/cdn/ok").len(), 2);
}

fn interaction(kind: u64, data: Value) -> Heard {
    let event = json!({
        "id": "6", "type": kind, "token": "aW50ZXI", "channel_id": "100", "guild_id": "900",
        "member": {"user": {"id": "7"}}, "data": data,
    });
    read("INTERACTION_CREATE", &event, "1", &Servers::default()).unwrap()
}

#[tokio::test]
async fn interactions_are_answered_by_their_own_token_and_ping_nobody() {
    let world = Scripted::always(Reply::text(204, "")).await;
    let api = &discord(&world).api;
    let options = json!([{"name": "text", "value": "why @everyone?"}]);
    let ask = interaction(2, json!({"name": "ask", "options": options}));
    let new = interaction(2, json!({"name": "new"}));
    let press = interaction(3, json!({"custom_id": "a"}));
    let (stored, refused) = (Ok(Taken::Stored), Ok(Taken::Refused));
    for (heard, taken) in [
        (&ask, stored.clone()),
        (&new, stored.clone()),
        (&press, stored.clone()),
        (&ask, Err(NotTaken)),
        (&press, Err(NotTaken)),
        (&ask, refused.clone()),
        (&new, refused.clone()),
        (&press, refused),
    ] {
        answer(api, heard, taken).await;
    }
    let asked = world.asked("/api/interactions/6/aW50ZXI/callback");
    let none = json!({"parse": []});
    let quiet = json!({"content": "…", "allowed_mentions": none, "flags": 64 | 4});
    for quietly in &asked[..2] {
        assert_eq!(quietly.json(), json!({"type": 4, "data": quiet}), "it repeats no words");
    }
    assert_eq!(asked[2].json(), json!({"type": 6}));
    for sorry in &asked[3..5] {
        assert_eq!(sorry.json()["data"]["flags"], 64 | 4);
        assert!(sorry.json()["data"]["content"].as_str().unwrap().contains("try again"));
    }
    let unsaid = json!({"content": "Not passed on.", "allowed_mentions": none, "flags": 64 | 4});
    for refused in &asked[5..7] {
        assert_eq!(refused.json(), json!({"type": 4, "data": unsaid}));
    }
    assert_eq!(asked[7].json(), json!({"type": 6}));
    assert!(asked.iter().all(|seen| seen.header("authorization").is_empty()));
    assert!(asked.iter().all(|seen| seen.header("user-agent").starts_with("DiscordBot (")));
    let message = Heard {
        what: What::Message { text: String::new(), meant: true, files: Vec::new() },
        ..press
    };
    answer(api, &message, stored).await;
    assert_eq!(world.asked("/callback").len(), 8, "a message needs no answer");
}

#[tokio::test]
async fn commands_are_registered_again_only_where_that_may_help() {
    for (status, body, tries) in [
        (200, json!([]), 1),
        (403, json!({"code": 50_001}), 1),
        (400, json!({"code": 50_035}), 1),
        (500, json!({}), 5),
    ] {
        let world = Scripted::always(Reply::json(status, body)).await;
        let api = discord(&world).api;
        register(api, "77".to_owned(), Duration::from_millis(1)).await;
        let asked = world.asked("/api/applications/77/commands");
        assert_eq!((asked.len(), asked[0].method.as_str()), (tries, "PUT"), "{status}");
        let names: Vec<_> =
            asked[0].json().as_array().unwrap().iter().map(|c| c["name"].clone()).collect();
        assert_eq!(names, ["ask", "new", "status", "cancel"]);
    }
}

/// Takes everything, remembers nothing.
struct Nowhere;

#[async_trait]
impl Inbox for Nowhere {
    async fn take(&self, _event: crate::model::Event) -> Result<Taken, NotTaken> {
        Ok(Taken::Stored)
    }
}

#[async_trait]
impl Cursor for Nowhere {
    async fn load(&self) -> Option<String> {
        None
    }

    async fn save(&self, _value: &str) -> Result<(), NotTaken> {
        Err(NotTaken)
    }
}

/// The token goes to nobody but Discord, whatever the API names.
#[tokio::test]
async fn a_gateway_that_is_not_discords_is_not_connected_to() {
    let world = Scripted::new(|seen| match seen.path.as_str() {
        "/api/gateway/bot" => Reply::json(200, json!({"url": "ws://gateway.evil.example"})),
        other => panic!("{other}"),
    })
    .await;
    let config = Config {
        bot_token: Some(CANARY.into()),
        api_url: Some(world.url.clone()),
        ..Config::default()
    };
    let clock: Arc<dyn crate::clock::Clock> = Arc::new(SystemClock);
    let timing = Timing { first_pause: Duration::from_millis(5), ..Timing::default() };
    let gateway = Gateway::new(&config, &scripted::client(), &clock, timing).unwrap();
    let (standing, mut seen) = tokio::sync::watch::channel(Standing::default());
    let stop = tokio_util::sync::CancellationToken::new();
    let inbox = Arc::new(Nowhere);
    let ears = Ears { inbox: inbox.clone(), cursor: inbox, standing, stop: stop.clone() };
    let (ended, ()) = tokio::join!(gateway.listen(ears), async {
        let why = seen.wait_for(|s| matches!(s, Standing::Retrying { .. })).await.unwrap().clone();
        let Standing::Retrying { why } = why else { unreachable!() };
        assert!(why.contains("DISCORD_API_URL") && !why.contains("evil"), "{why}");
        stop.cancel();
    });
    assert_eq!(ended, Ok(()));
}
