//! Discord's gateway and interactions as a client sees them that makes mistakes.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use http::Method;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::{WebSocketStream, client_async};

use super::super::{Fault, FaultKind, Press, Speech, Tokens, Vendor};
use super::{Served, json as answer, serve};

const ALERTS: &str = "100000000000000001";
const BOT: &str = "500000000000000001";
const ALL: u64 = 1 | 1 << 9 | 1 << 12 | 1 << 15;

struct Client(WebSocketStream<TcpStream>);

impl Client {
    async fn open(served: &Served, query: &str) -> Self {
        let host = served.base.trim_start_matches("http://");
        let stream = TcpStream::connect(host).await.unwrap();
        let url = format!("ws://{host}/sandbox/discord/gateway/?{query}").replace("/?", "?");
        Self(client_async(url, stream).await.unwrap().0)
    }

    async fn send(&mut self, frame: Value) {
        self.0.send(Frame::text(frame.to_string())).await.unwrap();
    }

    /// The next frame, or the code that the server closed with.
    async fn next(&mut self) -> Result<Value, u16> {
        let frame = tokio::time::timeout(Duration::from_secs(10), self.0.next()).await.unwrap();
        match frame {
            Some(Ok(Frame::Text(text))) => Ok(serde_json::from_str(&text).unwrap()),
            Some(Ok(Frame::Close(Some(frame)))) => Err(frame.code.into()),
            _ => Err(0),
        }
    }

    async fn event(&mut self, name: &str) -> Value {
        loop {
            let frame = self.next().await.unwrap();
            if frame["t"] == name {
                return frame["d"].clone();
            }
        }
    }

    async fn ready(served: &Served, intents: u64) -> Self {
        let mut this = Self::open(served, "v=10&encoding=json").await;
        this.send(identify(&Tokens::default().discord, json!(intents))).await;
        let ready = this.event("READY").await;
        assert_eq!(ready["user"]["id"], BOT);
        assert!(ready["resume_gateway_url"].as_str().unwrap().starts_with("ws://127.0.0.1:"));
        this
    }
}

fn identify(token: &str, intents: Value) -> Value {
    let properties = json!({ "os": "linux", "browser": "x", "device": "x" });
    json!({ "op": 2, "d": { "token": token, "intents": intents, "properties": properties } })
}

fn say(served: &Served, channel: &str, text: &str) {
    let (channel, text) = (format!("discord:{channel}"), text.to_owned());
    served.world.speak(&Speech { channel, text, ..Speech::default() }).unwrap();
}

#[tokio::test]
async fn mistakes_close_the_connection_with_their_code() {
    let token = Tokens::default().discord;
    let served = serve().await;
    let mut old = Client::open(&served, "v=9&encoding=json").await;
    assert_eq!(old.next().await.unwrap_err(), 4012);
    for (frame, code) in [
        (json!({ "op": 99 }), 4001),
        (json!("hello"), 4002),
        (json!({ "op": 3, "d": {} }), 4003),
        (identify("wrong", json!(1)), 4004),
        (identify(&format!("Bot {token}"), json!(1)), 4004),
        (identify(&token, json!("x")), 4002),
        (identify(&token, json!(1_u64 << 30)), 4013),
        (json!({ "op": 6, "d": { "token": "wrong", "session_id": "x", "seq": 1 } }), 4004),
    ] {
        let mut client = Client::open(&served, "v=10&encoding=json").await;
        assert_eq!(client.next().await.unwrap()["d"]["heartbeat_interval"], 41_250);
        client.send(frame.clone()).await;
        assert_eq!(client.next().await.unwrap_err(), code, "{frame}");
    }
    let mut twice = Client::ready(&served, ALL).await;
    twice.send(identify(&token, json!(ALL))).await;
    assert_eq!(twice.event_or_code().await, 4005);
    // What nobody knows cannot be resumed.
    let mut stranger = Client::open(&served, "v=10&encoding=json").await;
    stranger.next().await.unwrap();
    let resume = json!({ "op": 6, "d": { "token": token, "session_id": "x", "seq": 1 } });
    stranger.send(resume).await;
    let ended = stranger.next().await.unwrap();
    assert_eq!((&ended["op"], &ended["d"]), (&json!(9), &json!(false)));
}

impl Client {
    async fn event_or_code(&mut self) -> u16 {
        loop {
            if let Err(code) = self.next().await {
                return code;
            }
        }
    }
}

#[tokio::test]
async fn two_sessions_within_five_seconds_are_one_too_many() {
    let served = serve().await;
    let token = Tokens::default().discord;
    let _first = Client::ready(&served, ALL).await;
    for (later, op) in [(4, 9), (5, 0)] {
        served.clock.advance(Duration::from_secs(later));
        let mut second = Client::open(&served, "v=10&encoding=json").await;
        second.next().await.unwrap();
        second.send(identify(&token, json!(ALL))).await;
        assert_eq!(second.next().await.unwrap()["op"], op, "{later} s later");
    }
}

#[tokio::test]
async fn without_the_privileged_intent_only_what_is_meant_can_be_read() {
    let served = serve().await;
    served.world.fault(Fault::new(Vendor::Discord, FaultKind::MissingIntent));
    let mut refused = Client::open(&served, "v=10&encoding=json").await;
    refused.next().await.unwrap();
    refused.send(identify(&Tokens::default().discord, json!(ALL))).await;
    assert_eq!(refused.next().await.unwrap_err(), 4014);

    let mut client = Client::ready(&served, 1 | 1 << 9 | 1 << 12).await;
    let guild = client.event("GUILD_CREATE").await;
    assert_eq!(guild["channels"].as_array().unwrap().len(), 4, "without the one it cannot see");
    for (channel, said, read) in [
        (ALERTS, "secret", ""),
        (ALERTS, "@herald hi @bobby @bob", "<@500000000000000001> hi @bobby <@300000000000000002>"),
        ("400000000000000001", "psst", "psst"),
    ] {
        say(&served, channel, said);
        let heard = client.event("MESSAGE_CREATE").await;
        assert_eq!(heard["content"], read);
        assert_eq!(heard["author"]["id"], "300000000000000001");
        assert_eq!(heard.get("guild_id").is_some(), channel == ALERTS);
    }
    let hidden = served.world.speak(&Speech {
        channel: "discord:100000000000000004".to_owned(),
        text: "@herald?".to_owned(),
        ..Speech::default()
    });
    assert!(hidden.is_ok());
    say(&served, ALERTS, "@herald last");
    assert!(client.event("MESSAGE_CREATE").await["content"].as_str().unwrap().ends_with("last"));
}

async fn commands(served: &Served, commands: Value) -> (u16, Value) {
    let path = format!("/applications/{BOT}/commands");
    answer(served.discord(Method::PUT, &path).json(&commands)).await
}

async fn callback(served: &Served, event: &Value, body: Value) -> (u16, u64) {
    let (id, token) = (event["id"].as_str().unwrap(), event["token"].as_str().unwrap());
    let path = format!("/interactions/{id}/{token}/callback");
    // No bot token: the interaction's own is enough.
    let request = served
        .client
        .post(served.url(&format!("/sandbox/discord/api/v10{path}")))
        .header("user-agent", "DiscordBot (https://example.org, 1.0)");
    let response = request.json(&body).send().await.unwrap();
    let status = response.status().as_u16();
    let code = response.json::<Value>().await.ok().and_then(|body| body["code"].as_u64());
    (status, code.unwrap_or_default())
}

#[tokio::test]
async fn a_command_is_answered_once_and_within_three_seconds() {
    let served = serve().await;
    let mut client = Client::ready(&served, ALL).await;
    say(&served, ALERTS, "/ask why?");
    assert_eq!(client.event("MESSAGE_CREATE").await["content"], "/ask why?", "not registered");
    for wrong in
        [json!({}), json!([{ "name": "Ask", "description": "x" }]), json!([{ "name": "a" }])]
    {
        assert_eq!(commands(&served, wrong).await.0, 400);
    }
    let option = json!({ "name": "text", "description": "x", "type": 3, "required": true });
    let ask = json!([{ "name": "ask", "description": "x", "options": [option] }]);
    assert_eq!(commands(&served, ask).await.0, 200);

    let speech = Speech {
        channel: format!("discord:{ALERTS}"),
        text: "/ask why?".to_owned(),
        ..Speech::default()
    };
    let say = || assert!(served.world.speak(&speech).unwrap().is_none());
    say();
    let event = client.event("INTERACTION_CREATE").await;
    assert_eq!(event["data"]["options"][0]["value"], "why?");
    assert_eq!(event["member"]["user"]["username"], "alice");
    assert_eq!(callback(&served, &event, json!({ "type": 6 })).await, (400, 50035), "no button");
    let hello = json!({ "type": 4, "data": { "content": "hello", "flags": 64 } });
    assert_eq!(callback(&served, &event, hello.clone()).await.0, 204);
    assert_eq!(callback(&served, &event, hello.clone()).await, (400, 40060));
    let seen = served.world.messages(&format!("discord:{ALERTS}"));
    let last = seen.last().unwrap();
    assert_eq!((last.text.as_str(), last.only_for.as_deref()), ("hello", Some("alice")));

    say();
    let late = client.event("INTERACTION_CREATE").await;
    served.clock.advance(Duration::from_millis(3_001));
    assert_eq!(callback(&served, &late, hello).await, (404, 10062));
    let log = served.world.requests();
    assert!(log.iter().all(|r| !r.path.contains("sandbox-interaction-")), "its token is a secret");
}

#[tokio::test]
async fn a_deferred_answer_comes_by_the_webhook() {
    let served = serve().await;
    let mut client = Client::ready(&served, ALL).await;
    commands(&served, json!([{ "name": "new", "description": "x" }])).await;
    let channel = format!("discord:{ALERTS}");
    let text = "/new".to_owned();
    let speech = Speech { channel: channel.clone(), text, ..Speech::default() };
    served.world.speak(&speech).unwrap();
    let event = client.event("INTERACTION_CREATE").await;
    let path = format!("/webhooks/{BOT}/{}/messages/@original", event["token"].as_str().unwrap());
    let edit = |text: &str| served.discord(Method::PATCH, &path).json(&json!({ "content": text }));
    assert_eq!(answer(edit("too early")).await.1["code"], 10015);
    assert_eq!(callback(&served, &event, json!({ "type": 5 })).await.0, 204);
    for text in ["one", "two"] {
        assert_eq!(answer(edit(text)).await.1["content"], text);
    }
    assert_eq!(served.world.messages(&channel).len(), 1);
    let deleted = served.discord(Method::DELETE, &path).send().await.unwrap();
    assert_eq!(deleted.status(), 204);
    served.clock.advance(Duration::from_secs(901));
    assert_eq!(answer(edit("late")).await.1["code"], 50027);
}

fn row(buttons: Value) -> Value {
    json!({ "type": 1, "components": buttons })
}

fn button(key: &str) -> Value {
    json!({ "type": 2, "style": 3, "label": "Go", "custom_id": key })
}

#[tokio::test]
async fn buttons_are_checked_pressed_and_taken_away() {
    let served = serve().await;
    let mut client = Client::ready(&served, ALL).await;
    let path = format!("/channels/{ALERTS}/messages");
    let post = |components: Value| {
        let body = json!({ "content": "?", "components": components });
        answer(served.discord(Method::POST, &path).json(&body))
    };
    for wrong in [
        json!("x"),
        json!([button("a")]),
        json!([row(json!([]))]),
        json!([row(json!([button("a"), button("a")]))]),
        json!([row(json!([button("a")])), row(json!([button("a")]))]),
        json!([row(json!(["a", "b", "c", "d", "e", "f"].map(button)))]),
        json!(["a", "b", "c", "d", "e", "f"].map(|key| row(json!([button(key)])))),
        json!([row(json!([button("")]))]),
        json!([row(json!([button("delete pod nginx")]))]),
        json!([row(json!([button(&"a".repeat(101))]))]),
        json!([row(json!([{ "type": 2, "style": 5, "label": "x", "custom_id": "a" }]))]),
        json!([row(json!([{ "type": 2, "style": 1, "custom_id": "a" }]))]),
    ] {
        let (status, refused) = post(wrong.clone()).await;
        assert_eq!((status, &refused["code"]), (400, &json!(50035)), "{wrong}");
        assert!(refused["errors"]["components"].is_object(), "{wrong}");
    }
    let posted = post(json!([row(json!([button("a")]))])).await.1;
    let id = posted["id"].as_str().unwrap().to_owned();
    let press = Press {
        channel: format!("discord:{ALERTS}"),
        message: id.clone(),
        key: "a".to_owned(),
        author: Some("bob".to_owned()),
    };
    served.world.press(&press).unwrap();
    let event = client.event("INTERACTION_CREATE").await;
    assert_eq!((&event["type"], &event["data"]["custom_id"]), (&json!(3), &json!("a")));
    assert_eq!(event["message"]["id"], id);
    assert_eq!(callback(&served, &event, json!({ "type": 6 })).await.0, 204);

    let path = format!("{path}/{id}");
    let edit = |body: Value| answer(served.discord(Method::PATCH, &path).json(&body));
    edit(json!({ "content": "still" })).await;
    assert!(served.world.press(&press).is_ok(), "what an edit does not name stays");
    edit(json!({ "content": "done", "components": [] })).await;
    assert!(served.world.press(&press).is_err());
}

#[tokio::test]
async fn files_come_with_their_json_and_can_be_read_again() {
    let served = serve().await;
    let path = format!("/channels/{ALERTS}/messages");
    let part = |bytes: Vec<u8>| {
        let part = reqwest::multipart::Part::bytes(bytes).file_name("a.txt");
        part.mime_str("text/plain").unwrap()
    };
    let form = |json: Value, name: &'static str, bytes: Vec<u8>| {
        reqwest::multipart::Form::new()
            .text("payload_json", json.to_string())
            .part(name, part(bytes))
    };
    let post = |form| answer(served.discord(Method::POST, &path).multipart(form));
    let nonce = json!({ "nonce": "n", "enforce_nonce": true });
    let first = post(form(nonce.clone(), "files[0]", b"hello".to_vec())).await.1;
    let again = post(form(nonce, "files[0]", b"hello".to_vec())).await.1;
    assert_eq!(first["id"], again["id"]);
    let file = &first["attachments"][0];
    assert_eq!((&file["filename"], &file["size"]), (&json!("a.txt"), &json!(5)));
    let read = served.client.get(file["url"].as_str().unwrap()).send().await.unwrap();
    assert_eq!(read.bytes().await.unwrap().as_ref(), b"hello");
    assert_eq!(post(form(json!({}), "file", b"x".to_vec())).await.0, 400);
    let unknown = json!({ "attachments": [{ "id": 1 }] });
    assert_eq!(post(form(unknown, "files[0]", b"x".to_vec())).await.0, 400);
    let large = post(form(json!({}), "files[0]", vec![0; 10 * 1024 * 1024 + 1])).await;
    assert_eq!((large.0, &large.1["code"]), (413, &json!(40005)));
}
