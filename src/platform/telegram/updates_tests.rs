use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const AT: Timestamp = Timestamp(1_790_000_000_000);

fn me() -> Me {
    Me { id: 42, username: Some("Herald_bot".to_owned()), hears_everything: false }
}

fn alice() -> Value {
    json!({ "id": 5, "is_bot": false, "first_name": "Alice", "last_name": "Doe", "username": "alice" })
}

fn group() -> Value {
    json!({ "id": -1_001, "type": "supergroup", "title": "Ops" })
}

fn private() -> Value {
    json!({ "id": 5, "type": "private", "first_name": "Alice" })
}

/// Fields on top of an ordinary message in a group.
fn message(fields: Value) -> Value {
    let mut message =
        json!({ "message_id": 7, "from": alice(), "chat": group(), "date": 1_790_000_000 });
    message.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    message
}

fn told(fields: Value) -> Result<Heard, Skipped> {
    super::read(&json!({ "update_id": 9, "message": message(fields) }), &me(), AT)
}

fn said(fields: Value) -> (String, bool) {
    match told(fields.clone()).unwrap_or_else(|why| panic!("{why:?}: {fields}")).event.what {
        Occurrence::Message { text, addressed, .. } => (text, addressed),
        other => panic!("{other:?}"),
    }
}

fn entity(kind: &str, offset: usize, length: usize) -> Value {
    json!({ "type": kind, "offset": offset, "length": length })
}

#[test]
fn a_message_is_told_with_who_where_and_when() {
    let heard = told(json!({ "text": "pods?" })).unwrap();
    assert_eq!(
        heard.event,
        Event {
            id: "9".to_owned(),
            visit: Visit {
                channel: "telegram:-1001".parse().unwrap(),
                thread: None,
                direct: false,
                person: Person {
                    id: "5".to_owned(),
                    name: Some("Alice Doe".to_owned()),
                    outsider: false
                },
            },
            what: Occurrence::Message {
                message_id: "7".to_owned(),
                text: "pods?".to_owned(),
                addressed: false,
                files: Vec::new(),
            },
            respond: None,
            at: AT,
            traceparent: None,
            happened_at: Some(Timestamp(1_790_000_000_000)),
        }
    );
    assert_eq!(heard.query, None);
    let direct = told(json!({ "text": "pods?", "chat": private() })).unwrap().event;
    assert!(direct.visit.direct);
    assert_eq!(direct.visit.channel.id(), "5");
}

#[test]
fn a_topic_is_a_thread_and_a_chain_of_answers_is_none() {
    let thread = |fields: Value| told(fields).unwrap().event.visit.thread;
    let topic = json!({ "text": "x", "message_thread_id": 5, "is_topic_message": true });
    assert_eq!(thread(topic).as_deref(), Some("5"));
    assert_eq!(thread(json!({ "text": "x", "message_thread_id": 5 })), None);
}

#[test]
fn the_bot_is_addressed_by_mention_reply_and_in_private() {
    let by = |id: i64| json!({ "message_id": 3, "from": { "id": id, "is_bot": true } });
    let mut topic = by(42);
    topic["forum_topic_created"] = json!({ "name": "x" });
    for (fields, text, addressed) in [
        (
            json!({ "text": "@herald_BOT pods?", "entities": [entity("mention", 0, 11)] }),
            "pods?",
            true,
        ),
        (
            json!({ "text": "@herald_bot, pods?", "entities": [entity("mention", 0, 11)] }),
            "pods?",
            true,
        ),
        (
            json!({ "text": "🦀 @herald_bot pods?", "entities": [entity("mention", 3, 11)] }),
            "🦀 pods?",
            true,
        ),
        (
            json!({ "text": "pods? @herald_bot", "entities": [entity("mention", 6, 11)] }),
            "pods?",
            true,
        ),
        (
            json!({ "text": "ask @herald_bots", "entities": [entity("mention", 4, 12)] }),
            "ask @herald_bots",
            false,
        ),
        // Without an entity it is only text.
        (json!({ "text": "@herald_bot" }), "@herald_bot", false),
        (
            json!({ "text": "Herald, pods?", "entities": [
                { "type": "text_mention", "offset": 0, "length": 6, "user": { "id": 42 } }] }),
            "pods?",
            true,
        ),
        (
            json!({ "text": "ask Bob", "entities": [
                { "type": "text_mention", "offset": 4, "length": 3, "user": { "id": 6, "first_name": "Bob" } }] }),
            "ask @Bob",
            false,
        ),
        (json!({ "text": "and?", "reply_to_message": by(42) }), "and?", true),
        (json!({ "text": "and?", "reply_to_message": by(43) }), "and?", false),
        (json!({ "text": "and?", "reply_to_message": topic }), "and?", false),
        (json!({ "text": "hi", "chat": private() }), "hi", true),
        (
            json!({ "text": "see this", "entities": [
                { "type": "text_link", "offset": 4, "length": 4, "url": "https://e.org" }] }),
            "see this (https://e.org)",
            false,
        ),
        (
            json!({ "caption": "@herald_bot look", "caption_entities": [entity("mention", 0, 11)],
                "photo": [{ "file_id": "p" }] }),
            "look",
            true,
        ),
    ] {
        assert_eq!(said(fields.clone()), (text.to_owned(), addressed), "{fields}");
    }
}

#[test]
fn commands_are_taken_only_if_they_are_for_this_bot() {
    let command = |text: &str, chat: Value, more: Value| {
        let length = text.split(' ').next().unwrap().encode_utf16().count();
        let mut fields =
            json!({ "text": text, "chat": chat, "entities": [entity("bot_command", 0, length)] });
        fields.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        match told(fields) {
            Ok(heard) => match heard.event.what {
                Occurrence::Command { name, text, message_id } => {
                    assert_eq!(message_id.as_deref(), Some("7"));
                    Some((name, text))
                }
                other => panic!("{other:?}"),
            },
            Err(why) => {
                assert_eq!(why, NotForUs, "{text}");
                None
            }
        }
    };
    let is = |name: &str, text: &str| Some((name.to_owned(), text.to_owned()));
    let none = json!({});
    let reply = json!({ "reply_to_message": { "message_id": 3, "from": { "id": 42 } } });
    assert_eq!(command("/New", private(), none.clone()), is("new", ""));
    assert_eq!(command("/k8s which pods?", private(), none.clone()), is("k8s", "which pods?"));
    assert_eq!(command("/new@herald_bot", private(), none.clone()), is("new", ""));
    assert_eq!(command("/new@other_bot", private(), none.clone()), None);
    assert_eq!(command("/new@HERALD_bot now", group(), none.clone()), is("new", "now"));
    assert_eq!(command("/new@other_bot", group(), reply.clone()), None);
    assert_eq!(command("/new", group(), none), None);
    assert_eq!(command("/new", group(), reply), is("new", ""));
    let mention = json!({ "entities": [entity("bot_command", 0, 4), entity("mention", 5, 11)] });
    assert_eq!(command("/new @herald_bot", group(), mention), is("new", ""));
    // Elsewhere, or not one of Telegram's, it is text.
    let text =
        json!({ "text": "a /new", "chat": private(), "entities": [entity("bot_command", 2, 4)] });
    assert_eq!(said(text), ("a /new".to_owned(), true));
    let odd = json!({ "text": "/é", "chat": private(), "entities": [entity("bot_command", 0, 2)] });
    assert_eq!(said(odd), ("/é".to_owned(), true));
}

#[test]
fn a_file_under_a_command_keeps_both() {
    let fields = json!({ "caption": "/k8s@herald_bot look", "caption_entities": [entity("bot_command", 0, 15)],
        "document": { "file_id": "d", "file_name": "a.log", "mime_type": "text/plain", "file_size": 3 } });
    let Occurrence::Message { text, addressed, files, .. } = told(fields).unwrap().event.what
    else {
        panic!("no message");
    };
    assert_eq!((text.as_str(), addressed, files.len()), ("/k8s look", true, 1));
}

#[test]
fn attachments_have_name_type_size_and_source() {
    let attached = |fields: Value| match told(fields).unwrap().event.what {
        Occurrence::Message { files, .. } => files,
        other => panic!("{other:?}"),
    };
    let file = |name: &str, mime: &str, size, source: &str| Attachment {
        name: name.to_owned(),
        mime: mime.to_owned(),
        size,
        source: source.to_owned(),
    };
    let document = json!({ "file_id": "d", "file_name": "a\u{7}.log", "mime_type": "text/plain", "file_size": 3 });
    let size =
        |id: &str, side| json!({ "file_id": id, "width": side, "height": side, "file_size": side });
    for (fields, expected) in [
        (json!({ "document": document }), file("a.log", "text/plain", Some(3), "d")),
        (
            json!({ "photo": [size("s", 90), size("l", 1280), size("m", 320)] }),
            file("photo.jpg", "image/jpeg", Some(1280), "l"),
        ),
        (
            json!({ "voice": { "file_id": "v", "duration": 2, "mime_type": "audio/ogg" } }),
            file("voice.ogg", "audio/ogg", None, "v"),
        ),
        (
            json!({ "video": { "file_id": "v", "file_name": "b.mov", "mime_type": "video/quicktime" } }),
            file("b.mov", "video/quicktime", None, "v"),
        ),
        (
            json!({ "animation": { "file_id": "a" }, "document": { "file_id": "a" } }),
            file("animation.mp4", "video/mp4", None, "a"),
        ),
    ] {
        assert_eq!(attached(fields.clone()), [expected], "{fields}");
    }
}

#[test]
fn a_press_is_told_with_its_key_and_asks_to_be_answered() {
    let on = json!({ "message_id": 8, "chat": group(), "date": 0, "message_thread_id": 5, "is_topic_message": true });
    let press = json!({ "update_id": 10, "callback_query": {
        "id": "4800", "from": alice(), "message": on, "chat_instance": "1", "data": "k-1" } });
    let heard = super::read(&press, &me(), AT).unwrap();
    assert_eq!(heard.query.as_deref(), Some("4800"));
    assert_eq!(heard.event.visit.thread.as_deref(), Some("5"));
    let key = Occurrence::Press { key: "k-1".to_owned(), message_id: Some("8".to_owned()) };
    assert_eq!(heard.event.what, key);
    let mut inline = press.clone();
    inline["callback_query"].as_object_mut().unwrap().remove("message");
    assert_eq!(super::read(&inline, &me(), AT), Err(NotForUs));
    let mut long = press;
    long["callback_query"]["data"] = json!("k".repeat(65));
    assert_eq!(super::read(&long, &me(), AT), Err(Odd("data")));
}

#[test]
fn what_is_not_for_us_and_what_is_odd() {
    for (update, why) in [
        (json!({ "update_id": 1 }), NotForUs),
        (json!({ "update_id": 1, "poll_answer": {} }), NotForUs),
        (json!({ "update_id": 1, "message": message(json!({ "new_chat_title": "x" })) }), NotForUs),
        (json!({ "update_id": 1, "message": message(json!({ "text": " " })) }), NotForUs),
        (
            json!({ "update_id": 1, "message": message(json!({ "text": "x", "from": { "id": 6, "is_bot": true } })) }),
            NotForUs,
        ),
        (
            json!({ "update_id": 1, "message": message(json!({ "text": "x", "sender_chat": group() })) }),
            NotForUs,
        ),
        (json!({ "update_id": -1, "message": message(json!({ "text": "x" })) }), Odd("update_id")),
        (json!({ "message": message(json!({ "text": "x" })) }), Odd("update_id")),
        (json!([1]), Odd("update_id")),
        (json!({ "update_id": 1, "message": 5 }), Odd("from")),
        (
            json!({ "update_id": 1, "message": message(json!({ "text": "x", "chat": null })) }),
            Odd("chat.id"),
        ),
        (
            json!({ "update_id": 1, "message": message(json!({ "text": "x", "chat": { "id": "a" } })) }),
            Odd("chat.id"),
        ),
        (
            json!({ "update_id": 1, "message": message(json!({ "text": "x", "from": { "id": 1.5 } })) }),
            Odd("from.id"),
        ),
        (
            json!({ "update_id": 1, "message": message(json!({ "text": "x", "message_id": "7" })) }),
            Odd("message_id"),
        ),
    ] {
        assert_eq!(super::read(&update, &me(), AT), Err(why), "{update}");
    }
}

#[test]
fn entities_that_lie_nowhere_change_nothing() {
    let nowhere = [
        json!([entity("mention", 1, 1)]), // in the middle of the crab
        json!([entity("mention", 0, 1)]),
        json!([entity("mention", 0, 900)]),
        json!([{ "type": "mention", "offset": u64::MAX, "length": u64::MAX }]),
        json!([{ "type": "mention", "offset": -1, "length": 2 }]),
        json!([{ "type": 5, "offset": 0, "length": 2 }]),
        json!([7, null, "x", []]),
        json!({ "0": 1 }),
    ];
    for entities in nowhere {
        let fields = json!({ "text": "🦀 @herald_bot", "entities": entities });
        assert_eq!(said(fields), ("🦀 @herald_bot".to_owned(), false), "{entities}");
    }
    // One inside of another is left alone.
    let nested = json!({ "text": "ask Bob", "entities": [
        { "type": "text_link", "offset": 0, "length": 7, "url": "https://e.org" },
        { "type": "text_mention", "offset": 4, "length": 3, "user": { "id": 6 } }] });
    assert_eq!(said(nested).0, "ask Bob (https://e.org)");
}

#[test]
fn what_a_stranger_writes_is_bounded() {
    let (text, _) = said(json!({ "text": "🦀".repeat(9_000) }));
    assert_eq!(text.chars().count(), 8_000);
    let url = format!("https://e.org/{}", "a".repeat(20_000));
    let link = json!({ "type": "text_link", "offset": 0, "length": 1, "url": url });
    assert_eq!(said(json!({ "text": "x y", "entities": [link] })).0.chars().count(), 8_000);
    let from = json!({ "id": 5, "first_name": "A\n".repeat(500), "last_name": "B" });
    let name = told(json!({ "text": "x", "from": from })).unwrap().event.visit.person.name.unwrap();
    assert_eq!(name, "A".repeat(128));
    let files = json!({ "document": { "file_id": "d", "file_name": "n".repeat(5_000) } });
    let Occurrence::Message { files, .. } = told(files).unwrap().event.what else {
        panic!("no message");
    };
    assert_eq!(files[0].name.len(), 255);
    let source = json!({ "text": "x", "document": { "file_id": "d".repeat(5_000) } });
    let Occurrence::Message { text, files, .. } = told(source).unwrap().event.what else {
        panic!("no message");
    };
    assert_eq!((text.as_str(), files.len()), ("x", 0));
}

/// Any JSON, with Telegram's own names in places where they matter.
fn any_json() -> impl Strategy<Value = Value> {
    const NAMES: [&str; 30] = [
        "update_id",
        "message",
        "callback_query",
        "message_id",
        "from",
        "chat",
        "id",
        "type",
        "text",
        "caption",
        "entities",
        "caption_entities",
        "offset",
        "length",
        "user",
        "url",
        "is_bot",
        "first_name",
        "username",
        "message_thread_id",
        "is_topic_message",
        "reply_to_message",
        "document",
        "photo",
        "file_id",
        "file_name",
        "file_size",
        "width",
        "data",
        "sender_chat",
    ];
    let word = prop_oneof![
        any::<String>(),
        prop::sample::select(vec![
            "private",
            "mention",
            "text_mention",
            "text_link",
            "bot_command"
        ])
        .prop_map(str::to_owned),
        prop::sample::select(vec!["/new@herald_bot x", "🦀 @herald_bot", "https://e.org", "4800"])
            .prop_map(str::to_owned),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (0_i64..30).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        word.prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 96, 12, |inner| {
        let name = prop::sample::select(NAMES.to_vec()).prop_map(str::to_owned);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((name, inner), 0..12)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_json_is_read_without_a_panic(update in any_json()) {
        let _ = super::read(&update, &me(), AT);
        let _ = Me::read(&update);
    }

    #[test]
    fn so_is_any_message(mut fields in any_json(), text: String, entities in any_json()) {
        if let Some(fields) = fields.as_object_mut() {
            fields.insert("text".to_owned(), text.into());
            fields.insert("entities".to_owned(), entities);
            fields.entry("from").or_insert_with(alice);
            fields.entry("chat").or_insert_with(group);
            fields.entry("message_id").or_insert_with(|| 1.into());
        }
        let _ = super::read(&json!({ "update_id": 1, "message": fields }), &me(), AT);
    }

    /// What is outside of the entities stays, and the bot's name is gone wherever it stands.
    #[test]
    fn a_mention_is_cut_out_wherever_it_stands(before in "[a-z🦀é ]{0,20}", after in "[a-z🦀é ]{0,20}") {
        let text = format!("{before}@herald_bot{after}");
        let at = before.encode_utf16().count();
        let fields = json!({ "text": text, "entities": [entity("mention", at, 11)] });
        let (said, addressed) = said(fields);
        prop_assert!(addressed);
        let letters = |text: &str| text.chars().filter(|c| *c != ' ').collect::<String>();
        prop_assert_eq!(letters(&said), letters(&format!("{before}{after}")));
    }
}
