//! Buttons, and signals.

use super::*;
use crate::model::{Button, ButtonStyle, CardPart, TextPart};

fn card() -> Part {
    let button = |key: &str, label: &str, style| Button {
        key: key.to_owned(),
        label: label.to_owned(),
        style,
    };
    Part::Card(CardPart {
        text: TextPart::new("<b>May I?</b>", "May I?"),
        rows: vec![
            vec![
                button("k-1", "Approve", ButtonStyle::Good),
                button("k-2", "Reject", ButtonStyle::Danger),
            ],
            vec![button("k-3", "Show", ButtonStyle::Plain)],
        ],
    })
}

fn keyboard() -> Value {
    json!({"inline_keyboard": [
        [{"text": "Approve", "callback_data": "k-1", "style": "success"},
         {"text": "Reject", "callback_data": "k-2", "style": "danger"}],
        [{"text": "Show", "callback_data": "k-3"}],
    ]})
}

#[tokio::test]
async fn a_card_is_text_with_a_keyboard_and_an_edit_to_text_takes_it_away() {
    let world = Scripted::always(posted()).await;
    let telegram = telegram(&world);
    deliver(&telegram, &step(Action::Send { part: card() })).await.unwrap();
    let body = world.asked("/sendMessage")[0].json();
    assert_eq!((&body["text"], &body["reply_markup"]), (&json!("<b>May I?</b>"), &keyboard()));
    let again = Action::Edit { message_id: "7".to_owned(), part: card(), thread: None };
    deliver(&telegram, &step(again)).await.unwrap();
    deliver(&telegram, &edit()).await.unwrap();
    let edits = world.asked("/editMessageText");
    assert_eq!(edits[0].json()["reply_markup"], keyboard());
    assert!(edits[1].json().get("reply_markup").is_none());
}

#[tokio::test]
async fn a_card_that_goes_out_as_plain_text_keeps_its_buttons() {
    let world = Scripted::new(|seen| match seen.json().get("parse_mode") {
        Some(_) => refused(400, "Bad Request: can't parse entities"),
        None => posted(),
    })
    .await;
    deliver(&telegram(&world), &step(Action::Send { part: card() })).await.unwrap();
    let plain = world.asked("/sendMessage")[1].json();
    assert_eq!((&plain["text"], &plain["reply_markup"]), (&json!("May I?"), &keyboard()));
}

async fn signal(world: &Scripted, thread: Option<&str>, signal: &Signal) -> Result<(), Failure> {
    let placement = Placement { thread: thread.map(str::to_owned), ..Placement::default() };
    telegram(world).signal(&scripted::route(CHAT), &placement, signal).await
}

#[tokio::test]
async fn typing_shows_in_the_topic() {
    let world = Scripted::always(Wire::json(200, json!({"ok": true, "result": true}))).await;
    signal(&world, None, &Signal::Typing).await.unwrap();
    signal(&world, Some("5"), &Signal::Typing).await.unwrap();
    signal(&world, Some("1"), &Signal::Typing).await.unwrap();
    let asked = world.asked("/sendChatAction");
    let plain = json!({"chat_id": -1_001_000_000_001_i64, "action": "typing"});
    let mut topic = plain.clone();
    topic["message_thread_id"] = json!(5);
    let bodies: Vec<Value> = asked.iter().map(scripted::Seen::json).collect();
    assert_eq!(bodies, [plain.clone(), topic, plain]);
}

#[tokio::test]
async fn an_edit_that_changes_nothing_is_fine_and_a_limit_is_told() {
    let change = || Signal::Edit { message_id: "7".to_owned(), part: hi() };
    let same = Scripted::always(refused(400, "Bad Request: message is not modified: …")).await;
    signal(&same, None, &change()).await.unwrap();
    let body = json!({"ok": false, "error_code": 429, "description": "Too Many Requests: retry after 7",
        "parameters": {"retry_after": 7}});
    let busy = Scripted::always(Wire::json(429, body)).await;
    for wanted in [change(), Signal::Typing] {
        let failure = scripted::failure(PlatformKind::Telegram, signal(&busy, None, &wanted).await);
        let after = Some(Duration::from_secs(7));
        assert_eq!(failure.disposition, Disposition::Retry { after, scope: Scope::Channel });
    }
    assert_eq!(busy.asked("").len(), 2, "nothing is tried again");
}
