use proptest::prelude::*;
use serde_json::json;

use super::*;

const NOW: Timestamp = Timestamp(1_700_000_000_000);
const TS: &str = "1700000000.000100";

fn home() -> Home {
    Home { user: "U0BOT".to_owned(), team: Some("T0HOME".to_owned()), ..Home::default() }
}

fn read_at(home: &Home, told: Told<'_>) -> Option<Event> {
    let origins = Origins::new("https://slack.com/api".parse().unwrap());
    Reader { home, origins: &origins, fallback: "fallback", now: NOW }.read(told)
}

fn read(told: Told<'_>) -> Option<Event> {
    read_at(&home(), told)
}

/// A callback around an ordinary message with these fields changed; `null` takes one away.
fn message(changes: Value) -> Value {
    let mut event = json!({
        "type": "message", "user": "U0ALICE", "ts": TS, "event_ts": TS, "team": "T0HOME",
        "text": "hello", "channel": "C0ALERTS", "channel_type": "channel",
    });
    for (name, value) in changes.as_object().unwrap() {
        event[name] = value.clone();
    }
    json!({ "type": "event_callback", "team_id": "T0HOME", "event_id": "Ev1", "event": event })
}

fn heard(changes: Value) -> Option<Event> {
    read(Told::Callback(&message(changes)))
}

fn addressed(event: &Event) -> bool {
    matches!(event.what, Occurrence::Message { addressed: true, .. })
}

#[test]
fn a_mention_is_the_same_event_in_both_of_its_forms() {
    let text = "<@U0BOT> pods &lt;now&gt;, <@U0BOB>?";
    let message = heard(json!({ "text": text })).unwrap();
    let mention =
        heard(json!({ "type": "app_mention", "channel_type": null, "text": text })).unwrap();
    assert_eq!(message, mention);
    assert_eq!(
        message,
        Event {
            id: format!("C0ALERTS:{TS}"),
            visit: Visit {
                channel: "slack:C0ALERTS".parse().unwrap(),
                thread: None,
                direct: false,
                person: Person { id: "U0ALICE".to_owned(), name: None, outsider: false },
            },
            what: Occurrence::Message {
                message_id: TS.to_owned(),
                text: "pods <now>, @U0BOB?".to_owned(),
                addressed: true,
                files: Vec::new(),
            },
            respond: None,
            at: NOW,
            traceparent: None,
            happened_at: Some(Timestamp(1_700_000_000_000)),
        }
    );
}

#[test]
fn who_is_addressed_and_where_it_stands() {
    let in_channel = heard(json!({})).unwrap();
    assert!(!addressed(&in_channel) && !in_channel.visit.direct);
    let direct = heard(json!({ "channel": "D0ALICE", "channel_type": "im" })).unwrap();
    assert!(addressed(&direct) && direct.visit.direct);
    // A conversation of several is no direct one.
    let several = heard(json!({ "channel": "C0SEVERAL", "channel_type": "mpim" })).unwrap();
    assert!(!addressed(&several) && !several.visit.direct);
    let reply = heard(json!({ "thread_ts": "1690000000.000001" })).unwrap();
    assert_eq!(reply.visit.thread.as_deref(), Some("1690000000.000001"));
    assert!(!addressed(&reply));
    // A parent carries its own ts.
    assert_eq!(heard(json!({ "thread_ts": TS })).unwrap().visit.thread, None);
    assert_eq!(heard(json!({ "thread_ts": "x" })).unwrap().visit.thread, None);
}

#[test]
fn what_is_no_event() {
    for (why, changes) in [
        ("own", json!({ "user": "U0BOT" })),
        ("a bot's", json!({ "bot_id": "B0OTHER" })),
        ("a bot's by its profile", json!({ "bot_profile": {} })),
        ("Slackbot's", json!({ "user": "USLACKBOT" })),
        ("edited", json!({ "subtype": "message_changed", "message": { "text": "x" } })),
        ("deleted", json!({ "subtype": "message_deleted" })),
        ("joined", json!({ "subtype": "channel_join" })),
        (
            "edited into a mention",
            json!({ "type": "app_mention", "edited": { "user": "U0ALICE" } }),
        ),
        ("hidden", json!({ "hidden": true })),
        ("nobody's", json!({ "user": null })),
        ("nobody's either", json!({ "user": "" })),
        ("nowhere", json!({ "channel": null })),
        ("nowhere known", json!({ "channel": "../etc" })),
        ("at no time", json!({ "ts": "yesterday" })),
        ("at a number", json!({ "ts": 1_700_000_000.000_1 })),
        ("something else", json!({ "type": "reaction_added" })),
        ("nothing", json!({ "type": 7 })),
    ] {
        assert_eq!(heard(changes), None, "{why}");
    }
    assert_eq!(read(Told::Callback(&json!({ "type": "app_rate_limited" }))), None);
    for subtype in ["file_share", "thread_broadcast"] {
        assert!(heard(json!({ "subtype": subtype })).is_some(), "{subtype}");
    }
}

#[test]
fn what_a_stranger_wrote_is_bounded() {
    let file = |n: usize| {
        json!({
            "id": format!("F{n}"), "name": "a\nb".repeat(200), "mimetype": "text/plain", "size": 3,
            "url_private": "https://files.slack.com/files-pri/T0-F0/a.txt", "mode": "hosted",
        })
    };
    let mut files: Vec<Value> = (0..30).map(file).collect();
    files.insert(0, json!({ "mode": "tombstone", "url_private": "https://files.slack.com/gone" }));
    files.insert(0, json!({ "id": "F0", "file_access": "check_file_info" }));
    files.insert(0, json!("no file"));
    let event =
        heard(json!({ "text": "x".repeat(20_000), "subtype": "file_share", "files": files }));
    let Occurrence::Message { text, files, .. } = event.unwrap().what else { panic!() };
    assert_eq!(text.len(), 8_000);
    assert_eq!(files.len(), 10);
    assert!(files.iter().all(|file| file.name.chars().count() <= 200 && !file.name.contains('\n')));
    assert_eq!(files[0].size, Some(3));
    assert_eq!(files[0].mime, "text/plain");
}

#[test]
fn who_is_from_elsewhere() {
    let shared = |event: Value, shared: bool| {
        let mut callback = message(event);
        callback["is_ext_shared_channel"] = json!(shared);
        callback
    };
    let outside = |home: &Home, callback: &Value| {
        read_at(home, Told::Callback(callback)).unwrap().visit.person.outsider
    };
    let of = |team: Value, user_team: Value| json!({ "team": team, "user_team": user_team });
    let none = Value::Null;
    for (event, ext, outsider) in [
        (of(json!("T0HOME"), none.clone()), false, false),
        (of(json!("T0HOME"), none.clone()), true, false),
        (of(json!("T0OTHER"), none.clone()), true, true),
        (of(json!("T0HOME"), json!("T0OTHER")), true, true),
        (of(none.clone(), none.clone()), false, false),
        // Nobody says where they belong, and others may read along.
        (of(none.clone(), none.clone()), true, true),
    ] {
        assert_eq!(outside(&home(), &shared(event.clone(), ext)), outsider, "{event} {ext}");
    }
    // Installed for a whole organisation: its workspaces are not known by name.
    let org = Home { enterprise: Some("E0HOME".to_owned()), org_wide: true, ..home() };
    for (team, ext, outsider) in
        [("T0SISTER", false, false), ("E0HOME", true, false), ("T0OTHER", true, true)]
    {
        assert_eq!(outside(&org, &shared(of(json!(team), none.clone()), ext)), outsider, "{team}");
    }
}

fn command(changes: Value) -> Value {
    let mut fields = json!({
        "command": "/MyKagent", "text": " show &amp; tell ", "user_id": "U0ALICE",
        "user_name": "alice", "channel_id": "C0ALERTS", "team_id": "T0HOME", "trigger_id": "1.2.x",
        "response_url": "https://hooks.slack.com/commands/T0HOME/1/secret",
    });
    for (name, value) in changes.as_object().unwrap() {
        fields[name] = value.clone();
    }
    fields
}

#[test]
fn a_command_can_be_answered_where_slack_says_alone() {
    let event = read(Told::Command(&command(json!({})))).unwrap();
    assert_eq!(event.id, "1.2.x");
    assert_eq!(event.visit.person.name.as_deref(), Some("alice"));
    let what = Occurrence::Command {
        name: "mykagent".to_owned(),
        text: "show & tell".to_owned(),
        message_id: None,
    };
    assert_eq!(event.what, what);
    assert!(event.respond.is_some());
    assert!(!format!("{event:?}").contains("secret"), "{event:?}");

    for url in ["https://hooks.slack.com.evil.example/x", "http://hooks.slack.com/x", "x", ""] {
        let event = read(Told::Command(&command(json!({ "response_url": url })))).unwrap();
        assert_eq!(event.respond, None, "{url}");
    }
    let event = read(Told::Command(&command(json!({ "trigger_id": null })))).unwrap();
    assert_eq!(event.id, "fallback");
    let event = read(Told::Command(&command(json!({ "team_id": "T0OTHER" })))).unwrap();
    assert!(event.visit.person.outsider);
    for gone in ["command", "user_id", "channel_id"] {
        assert_eq!(read(Told::Command(&command(json!({ gone: null })))), None, "{gone}");
    }
}

fn press(changes: Value) -> Value {
    let mut payload = json!({
        "type": "block_actions", "trigger_id": "3.4.y", "team": { "id": "T0HOME" },
        "user": { "id": "U0BOB", "username": "bob", "team_id": "T0HOME" },
        "channel": { "id": "C0ALERTS", "name": "alerts" },
        "container": { "type": "message", "message_ts": TS, "channel_id": "C0ALERTS" },
        "message": { "ts": TS, "thread_ts": "1690000000.000001" },
        "actions": [{ "type": "button", "action_id": "0-0", "value": "k1" }],
        "response_url": "https://hooks.slack.com/actions/T0HOME/1/secret",
    });
    for (name, value) in changes.as_object().unwrap() {
        payload[name] = value.clone();
    }
    payload
}

#[test]
fn a_press_names_the_key_the_message_and_the_presser() {
    let event = read(Told::Interaction(&press(json!({})))).unwrap();
    assert_eq!(event.id, "3.4.y");
    assert_eq!(event.visit.person.id, "U0BOB");
    assert_eq!(event.visit.thread.as_deref(), Some("1690000000.000001"));
    let what = Occurrence::Press { key: "k1".to_owned(), message_id: Some(TS.to_owned()) };
    assert_eq!(event.what, what);
    assert!(event.respond.is_some());

    // From another organisation, whether Slack says so by the person or only by the workspace.
    for changes in [
        json!({ "user": { "id": "U0EVE", "team_id": "T0OTHER" } }),
        json!({ "user": { "id": "U0EVE" }, "team": { "id": "T0OTHER" } }),
    ] {
        let event = read(Told::Interaction(&press(changes.clone()))).unwrap();
        assert!(event.visit.person.outsider, "{changes}");
    }
    let selected = json!({ "actions": [{ "selected_option": { "value": "k2" } }] });
    let event = read(Told::Interaction(&press(selected))).unwrap();
    assert!(matches!(event.what, Occurrence::Press { key, .. } if key == "k2"));
    for (why, changes) in [
        ("a shortcut", json!({ "type": "shortcut" })),
        ("no action", json!({ "actions": [] })),
        ("a link", json!({ "actions": [{ "type": "button", "url": "https://x.example" }] })),
        ("no key", json!({ "actions": [{ "value": "" }] })),
        ("no key of ours", json!({ "actions": [{ "value": "k".repeat(65) }] })),
        ("nobody", json!({ "user": {} })),
        ("nowhere", json!({ "channel": null, "container": null })),
    ] {
        assert_eq!(read(Told::Interaction(&press(changes))), None, "{why}");
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let word = prop_oneof![
        Just("type".to_owned()),
        Just("event_callback".to_owned()),
        Just("message".to_owned()),
        Just("block_actions".to_owned()),
        Just("C0ALERTS".to_owned()),
        Just(TS.to_owned()),
        "\\PC{0,12}",
    ];
    let name = prop::sample::select(vec![
        "type",
        "event",
        "user",
        "id",
        "ts",
        "channel",
        "text",
        "actions",
        "value",
        "files",
        "thread_ts",
        "container",
        "message",
        "command",
        "user_id",
        "channel_id",
        "response_url",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        word.prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 64, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((name.clone(), inner), 0..8).prop_map(|fields| {
                fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
            }),
        ]
    })
}

proptest! {
    #[test]
    fn any_json_is_read(value in any_json(), changes in any_json()) {
        for told in [Told::Callback(&value), Told::Command(&value), Told::Interaction(&value)] {
            read(told);
        }
        if let Value::Object(fields) = changes {
            let changes = Value::Object(fields);
            heard(changes.clone());
            read(Told::Command(&command(changes.clone())));
            read(Told::Interaction(&press(changes)));
        }
    }
}
