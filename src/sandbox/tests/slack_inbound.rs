//! What Slack tells the bot, and where the bot may answer: Socket Mode, response URLs, files.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message as Frame;

use super::super::{Fault, FaultKind, NotPressed, Press, Speech, Upload, Vendor};
use super::{Served, json as answer, serve};

type Socket = WebSocketStream<TcpStream>;

async fn ask(served: &Served, token: &str) -> Value {
    let url = served.url("/sandbox/slack/api/apps.connections.open");
    answer(served.client.post(url).bearer_auth(token)).await.1
}

async fn open(url: &str) -> Socket {
    let url: url::Url = url.parse().unwrap();
    let address = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap());
    let stream = TcpStream::connect(address).await.unwrap();
    tokio_tungstenite::client_async(url.as_str(), stream).await.unwrap().0
}

async fn connect(served: &Served) -> Socket {
    let answer = ask(served, "xapp-sandbox-not-a-secret").await;
    let mut socket = open(answer["url"].as_str().unwrap()).await;
    assert_eq!(next(&mut socket).await["type"], "hello");
    socket
}

async fn next(socket: &mut Socket) -> Value {
    let frame = async {
        loop {
            if let Frame::Text(text) = socket.next().await.unwrap().unwrap() {
                return serde_json::from_str(&text).unwrap();
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(5), frame).await.expect("a frame")
}

async fn acknowledge(socket: &mut Socket, envelope: &Value) {
    let ack = json!({ "envelope_id": envelope["envelope_id"] });
    socket.send(Frame::text(ack.to_string())).await.unwrap();
}

fn say(served: &Served, channel: &str, text: &str) {
    let speech = Speech { channel: channel.to_owned(), text: text.to_owned(), ..Speech::default() };
    served.world.speak(&speech).unwrap();
}

#[tokio::test]
async fn only_the_app_token_opens_a_socket_and_each_ticket_once() {
    let served = serve().await;
    for (token, error) in
        [("xoxb-sandbox-not-a-secret", "not_allowed_token_type"), ("xapp-other", "invalid_auth")]
    {
        assert_eq!(ask(&served, token).await["error"], error);
    }
    let url = served.url("/sandbox/slack/api/auth.test");
    let request = served.client.post(url).bearer_auth("xapp-sandbox-not-a-secret");
    assert_eq!(answer(request).await.1["error"], "not_allowed_token_type");
    let url = ask(&served, "xapp-sandbox-not-a-secret").await["url"].as_str().unwrap().to_owned();
    let mut socket = open(&url).await;
    assert_eq!(next(&mut socket).await["connection_info"]["app_id"], "A0HERALD");
    let again = url.replacen("ws", "http", 1);
    let again = served.client.get(again).header("connection", "upgrade");
    let again = again.header("upgrade", "websocket").header("sec-websocket-version", "13");
    let again = again.header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    assert_eq!(again.send().await.unwrap().status(), 404);
}

#[tokio::test]
async fn a_mention_comes_twice_and_a_bots_word_once() {
    let served = serve().await;
    let mut socket = connect(&served).await;
    say(&served, "slack:C0ALERTS", "@herald hello");
    let (message, mention) = (next(&mut socket).await, next(&mut socket).await);
    assert_eq!(message["type"], "events_api");
    assert_eq!(message["payload"]["event"]["type"], "message");
    assert_eq!(message["payload"]["event"]["text"], "<@U0HERALD> hello");
    assert_eq!(message["payload"]["authorizations"][0]["user_id"], "U0HERALD");
    assert_eq!(mention["payload"]["event"]["type"], "app_mention");
    assert_eq!(mention["payload"]["event"]["ts"], message["payload"]["event"]["ts"]);
    assert_ne!(mention["payload"]["event_id"], message["payload"]["event_id"]);
    let sent = json!({ "channel": "C0ALERTS", "text": "hi <@U0HERALD>" });
    answer(served.slack("chat.postMessage").json(&sent)).await;
    let own = next(&mut socket).await;
    assert_eq!(own["payload"]["event"]["bot_id"], "B0HERALD");
    // Where it is no member it hears nothing; alone with somebody, everything.
    say(&served, "slack:C0OUTSIDE", "<@U0HERALD> hello");
    say(&served, "slack:D0ALICE", "hello");
    let direct = next(&mut socket).await;
    assert_eq!(direct["payload"]["event"]["channel_type"], "im");
    assert_eq!(direct["payload"]["event"]["channel"], "D0ALICE");
}

#[tokio::test]
async fn what_is_not_acknowledged_comes_again() {
    let served = serve().await;
    served.world.slack_patience(Duration::from_millis(30));
    let mut socket = connect(&served).await;
    say(&served, "slack:C0ALERTS", "hello");
    let first = next(&mut socket).await;
    assert_eq!(first["retry_attempt"], 0);
    let second = next(&mut socket).await;
    assert_eq!(second["envelope_id"], first["envelope_id"]);
    assert_eq!((&second["retry_attempt"], &second["retry_reason"]), (&json!(1), &json!("timeout")));
    acknowledge(&mut socket, &second).await;
    // A command is told once: whoever used it sees an error by now.
    say(&served, "slack:C0ALERTS", "/mykagent one");
    assert_eq!(next(&mut socket).await["payload"]["text"], "one");
    let dropped = async {
        while served.world.slack_waiting() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), dropped).await.expect("it is given up");
}

#[tokio::test]
async fn a_connection_that_closes_leaves_its_envelopes_to_the_others() {
    let served = serve().await;
    let mut socket = connect(&served).await;
    say(&served, "slack:C0ALERTS", "/mykagent hello");
    let told = next(&mut socket).await;
    assert_eq!(told["type"], "slash_commands");
    assert_eq!(told["accepts_response_payload"], true);
    let mut other = connect(&served).await;
    socket.close(None).await.unwrap();
    let again = next(&mut other).await;
    assert_eq!(again["envelope_id"], told["envelope_id"]);
    acknowledge(&mut other, &again).await;
}

#[tokio::test]
async fn sockets_are_closed_on_demand_and_never_too_many() {
    let served = serve().await;
    for (kind, reason) in [
        (FaultKind::Disconnect, "refresh_requested"),
        (FaultKind::Refresh, "warning"),
        (FaultKind::LinkDisabled, "link_disabled"),
        (FaultKind::TooManySockets, "too_many_websockets"),
    ] {
        let mut socket = connect(&served).await;
        served.world.fault(Fault::new(Vendor::Slack, kind));
        let farewell = next(&mut socket).await;
        assert_eq!(
            (&farewell["type"], &farewell["reason"]),
            (&json!("disconnect"), &json!(reason))
        );
        assert!(Fault::new(Vendor::Discord, kind).check().is_err());
        if kind == FaultKind::Refresh {
            socket.close(None).await.unwrap();
        }
        while socket.next().await.is_some_and(|frame| frame.is_ok()) {}
    }
    let mut sockets = Vec::new();
    for _ in 0..10 {
        sockets.push(connect(&served).await);
    }
    let url = ask(&served, "xapp-sandbox-not-a-secret").await["url"].as_str().unwrap().to_owned();
    assert_eq!(next(&mut open(&url).await).await["reason"], "too_many_websockets");
}

async fn respond(served: &Served, url: &str, body: Value) -> (u16, Value) {
    answer(served.client.post(url).json(&body)).await
}

#[tokio::test]
async fn a_response_url_takes_five_answers_in_half_an_hour() {
    let served = serve().await;
    let mut socket = connect(&served).await;
    say(&served, "slack:C0OUTSIDE", "/mykagent hello");
    let command = next(&mut socket).await;
    acknowledge(&mut socket, &command).await;
    let url = command["payload"]["response_url"].as_str().unwrap();
    assert!(url.starts_with(&served.base), "{url}");
    assert!(served.world.messages("slack:C0OUTSIDE").is_empty(), "nobody sees a command");

    assert_eq!(respond(&served, url, json!({ "text": "psst" })).await.0, 200);
    let public = json!({ "text": "all", "response_type": "in_channel" });
    assert_eq!(respond(&served, url, public).await.0, 200);
    let replaced =
        json!({ "text": "new", "replace_original": true, "response_type": "in_channel" });
    assert_eq!(respond(&served, url, replaced).await.0, 200);
    let messages = served.world.messages("slack:C0OUTSIDE");
    let seen: Vec<_> = messages.iter().map(|m| (m.text.as_str(), m.only_for.as_deref())).collect();
    assert_eq!(seen, [("psst", Some("alice")), ("new", None)]);
    assert!(messages[1].edited);

    for (body, error) in [
        (json!({ "text": "" }), "no_text"),
        (json!({ "text": "x", "channel": "C0ALERTS" }), "invalid_payload"),
        (json!({ "text": "x", "response_type": "loud" }), "invalid_response_type"),
        (json!([]), "invalid_payload"),
    ] {
        let (status, answer) = respond(&served, url, body).await;
        assert_eq!((status, &answer["error"]), (400, &json!(error)));
    }
    for _ in 0..2 {
        assert_eq!(respond(&served, url, json!({ "text": "x" })).await.0, 200);
    }
    let (status, answer) = respond(&served, url, json!({ "text": "x" })).await;
    assert_eq!((status, &answer["error"]), (404, &json!("used_url")));

    say(&served, "slack:C0OUTSIDE", "/mykagent again");
    let command = next(&mut socket).await;
    let url = command["payload"]["response_url"].as_str().unwrap();
    served.clock.advance(Duration::from_secs(30 * 60 + 1));
    let (status, answer) = respond(&served, url, json!({ "text": "x" })).await;
    assert_eq!((status, &answer["error"]), (404, &json!("expired_url")));
}

fn actions(ids: [&str; 2]) -> Value {
    let button = |id: &str, style: &str| {
        json!({
            "type": "button", "action_id": id, "value": format!("key-{style}"), "style": style,
            "text": { "type": "plain_text", "text": style },
        })
    };
    json!([
        { "type": "markdown", "text": "**well?**" },
        { "type": "actions", "elements": [button(ids[0], "primary"), button(ids[1], "danger")] },
    ])
}

#[tokio::test]
async fn buttons_are_seen_pressed_and_taken_away() {
    let served = serve().await;
    let mut socket = connect(&served).await;
    let post = |blocks: Value| json!({ "channel": "D0ALICE", "text": "?", "blocks": blocks });
    let (_, twice) =
        answer(served.slack("chat.postMessage").json(&post(actions(["a", "a"])))).await;
    assert_eq!(twice["error"], "invalid_blocks");
    let (_, sent) = answer(served.slack("chat.postMessage").json(&post(actions(["a", "b"])))).await;
    let own = next(&mut socket).await;
    acknowledge(&mut socket, &own).await;
    let message = sent["ts"].as_str().unwrap().to_owned();
    let buttons = served.world.messages("slack:D0ALICE")[0].buttons.clone();
    let styles: Vec<&str> = buttons.iter().flatten().map(|button| button.style).collect();
    assert_eq!(styles, ["good", "danger"]);

    let press = Press {
        channel: "slack:D0ALICE".to_owned(),
        message: message.clone(),
        key: "key-danger".to_owned(),
        author: None,
    };
    served.world.press(&press).unwrap();
    let pressed = next(&mut socket).await;
    assert_eq!(pressed["type"], "interactive");
    let payload = &pressed["payload"];
    assert_eq!(payload["actions"][0]["value"], "key-danger");
    assert_eq!(payload["actions"][0]["action_id"], "b");
    assert_eq!(payload["container"]["message_ts"], message.as_str());
    // Its response URL replaces what was pressed.
    let url = payload["response_url"].as_str().unwrap();
    let outcome = json!({ "replace_original": true, "text": "rejected", "blocks": [] });
    assert_eq!(respond(&served, url, outcome).await.0, 200);
    let messages = served.world.messages("slack:D0ALICE");
    assert_eq!((messages.len(), messages[0].text.as_str()), (1, "rejected"));
    assert!(messages[0].buttons.is_empty());
    assert_eq!(served.world.press(&press).unwrap_err(), NotPressed::NoButton);
}

#[tokio::test]
async fn files_go_up_in_three_steps_and_come_down_with_the_token() {
    let served = serve().await;
    let begin = async |name: &str, length: &str| {
        let form = [("filename", name), ("length", length)];
        answer(served.slack("files.getUploadURLExternal").form(&form)).await.1
    };
    let complete = async |id: &str, channel: &str| {
        let body = json!({ "files": [{ "id": id, "title": "t" }], "channel_id": channel });
        answer(served.slack("files.completeUploadExternal").json(&body)).await.1
    };
    let json_body = json!({ "filename": "a", "length": 3 });
    let (_, wrong) = answer(served.slack("files.getUploadURLExternal").json(&json_body)).await;
    assert_eq!(wrong["error"], "invalid_arguments", "as a form alone");
    assert_eq!(begin("a.txt", "0").await["error"], "invalid_arguments");
    let begun = begin("a.txt", "3").await;
    let (url, id) = (begun["upload_url"].as_str().unwrap(), begun["file_id"].as_str().unwrap());
    assert_eq!(complete(id, "C0ALERTS").await["error"], "file_not_found");
    let short = served.client.post(url).body("ab").send().await.unwrap();
    assert_eq!(short.status(), 400);
    assert_eq!(served.client.post(url).body("abc").send().await.unwrap().status(), 200);
    assert_eq!(complete(id, "C0OUTSIDE").await["error"], "not_in_channel");
    assert_eq!(complete(id, "C0ALERTS").await["ok"], true);
    let shown = served.world.messages("slack:C0ALERTS")[0].files.clone();
    assert_eq!((shown[0].name.as_str(), shown[0].bytes.as_slice()), ("a.txt", &b"abc"[..]));

    let scope = Fault::new(Vendor::Slack, FaultKind::MissingScope);
    served.world.fault(scope.method("files.getUploadURLExternal"));
    assert_eq!(begin("a.txt", "3").await["needed"], "files:write");

    let mut socket = connect(&served).await;
    let own = next(&mut socket).await;
    acknowledge(&mut socket, &own).await;
    let upload = Upload {
        name: "log.txt".to_owned(),
        mime: "text/plain".to_owned(),
        base64: "aGVsbG8=".to_owned(),
    };
    let speech = Speech {
        channel: "slack:C0ALERTS".to_owned(),
        text: "look".to_owned(),
        files: vec![upload],
        ..Speech::default()
    };
    served.world.speak(&speech).unwrap();
    let said = next(&mut socket).await;
    let event = &said["payload"]["event"];
    assert_eq!(event["subtype"], "file_share");
    let url = event["files"][0]["url_private"].as_str().unwrap();
    let no_redirects = reqwest::redirect::Policy::none();
    let client = reqwest::Client::builder().no_proxy().redirect(no_redirects).build().unwrap();
    assert_eq!(client.get(url).send().await.unwrap().status(), 302);
    let read = client.get(url).bearer_auth("xoxb-sandbox-not-a-secret").send().await.unwrap();
    assert_eq!(read.text().await.unwrap(), "hello");
}
