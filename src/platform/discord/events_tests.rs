use proptest::prelude::*;
use serde_json::json;

use super::*;

const ME: &str = "500000000000000001";
const ALICE: &str = "300000000000000001";

fn servers() -> Servers {
    let servers = Servers::default();
    let guild = json!({
        "id": "900",
        "channels": [{ "id": "100", "type": 0, "name": "alerts" }, { "id": "101" }, 7],
        "threads": [{ "id": "110", "type": 11, "parent_id": "100", "name": "incident" },
                    { "id": "111", "type": 11, "parent_id": null }],
        "roles": [{ "id": "801", "name": "herald", "tags": { "bot_id": ME } },
                  { "id": "802", "name": "on-call" }],
    });
    servers.learn("GUILD_CREATE", &guild, ME);
    servers
}

fn said(change: Value) -> Value {
    let mut message = json!({
        "id": "1", "type": 0, "channel_id": "100", "guild_id": "900", "content": "hi",
        "author": { "id": ALICE, "username": "alice" }, "mentions": [], "attachments": [],
    });
    for (name, value) in change.as_object().unwrap() {
        message[name] = value.clone();
    }
    message
}

fn heard(change: Value) -> Option<Heard> {
    read("MESSAGE_CREATE", &said(change), ME, &servers())
}

fn text(change: Value) -> (String, bool) {
    match heard(change).unwrap().what {
        What::Message { text, meant, .. } => (text, meant),
        other => panic!("{other:?}"),
    }
}

#[test]
fn servers_are_learned() {
    let servers = servers();
    let known = |id: &str| servers.channels.get(id);
    assert!(!known("100").unwrap().is_thread());
    assert_eq!(known("100").unwrap().guild_id.as_deref(), Some("900"));
    assert_eq!(known("110").unwrap().parent_id.as_deref(), Some("100"));
    assert!(known("101").is_none(), "of no kind");
    assert!(known("111").is_none(), "of nobody");
    let thread = json!({ "id": "112", "type": 12, "parent_id": "100", "guild_id": "900" });
    servers.learn("THREAD_CREATE", &thread, ME);
    assert!(known("112").unwrap().is_thread());
}

#[test]
fn who_speaks_is_a_person() {
    let alice = heard(json!({})).unwrap();
    assert_eq!((alice.person.id.as_str(), alice.person.name.as_deref()), (ALICE, Some("alice")));
    let author = json!({ "id": ALICE, "username": "a", "global_name": "Alice\nB" });
    let named = heard(json!({ "author": author, "member": { "nick": null } })).unwrap();
    assert_eq!(named.person.name.as_deref(), Some("AliceB"));
    let named = heard(json!({ "author": author, "member": { "nick": "Al" } })).unwrap();
    assert_eq!(named.person.name.as_deref(), Some("Al"));
    for nobody in [
        json!({ "author": { "id": ME } }),
        json!({ "author": { "id": "7", "bot": true } }),
        json!({ "author": { "id": "7", "system": true } }),
        json!({ "author": { "id": "../users" } }),
        json!({ "author": { "id": 7 } }),
        json!({ "author": null }),
        json!({ "webhook_id": "7" }),
    ] {
        assert_eq!(heard(nobody.clone()), None, "{nobody}");
    }
}

#[test]
fn what_is_no_message_of_a_person_is_left_out() {
    for (kind, counts) in [(0, true), (19, true), (7, false), (18, false), (20, false), (21, false)]
    {
        assert_eq!(heard(json!({ "type": kind })).is_some(), counts, "{kind}");
    }
    assert_eq!(heard(json!({ "content": "" })), None, "a sticker");
    assert!(heard(json!({ "content": "", "guild_id": null })).is_some(), "said to the bot alone");
    assert_eq!(heard(json!({ "id": "x" })), None);
    assert_eq!(heard(json!({ "channel_id": null })), None);
    assert!(heard(json!({ "mentions": 7, "attachments": "x", "member": [] })).is_some());
}

#[test]
fn what_is_meant_for_the_bot() {
    let mention = json!([{ "id": ME, "username": "herald" }]);
    for (change, meant) in [
        (json!({}), false),
        (json!({ "guild_id": null }), true),
        (json!({ "mentions": mention, "content": format!("<@{ME}> hi") }), true),
        (json!({ "mentions": mention }), true),
        (json!({ "content": "<@&801> hi" }), true),
        (json!({ "content": "<@&802> hi" }), false),
        (json!({ "type": 19, "referenced_message": { "author": { "id": ME } } }), true),
        (json!({ "type": 19, "referenced_message": { "author": { "id": ALICE } } }), false),
        (json!({ "type": 19, "referenced_message": null }), false),
    ] {
        assert_eq!(text(change.clone()).1, meant, "{change}");
    }
}

#[test]
fn text_is_as_people_see_it() {
    let bob = json!([{ "id": "42", "username": "bob", "global_name": "Bob", "member": { "nick": null } }]);
    for (content, plain) in [
        (format!("<@{ME}> why?"), "why?"),
        (format!("<@!{ME}>"), ""),
        ("<@42> and <@43>".to_owned(), "@Bob and @someone"),
        ("<@&801> <@&802> <@&803>".to_owned(), "@on-call @role"),
        ("see <#100> <#110> <#99>".to_owned(), "see #alerts #incident #channel"),
        ("<:ok:1> <a:dance:2> </ask:3>".to_owned(), ":ok: :dance: /ask"),
        ("<https://example.org/?a=1>".to_owned(), "https://example.org/?a=1"),
        (
            "a < b > c <- <t:1:R> <@x> <@> <:x:> <".to_owned(),
            "a < b > c <- <t:1:R> <@x> <@> <:x:> <",
        ),
        ("<<@42>>".to_owned(), "<@Bob>"),
        ("  é\n ".to_owned(), "é"),
    ] {
        assert_eq!(text(json!({ "content": content, "mentions": bob })).0, plain, "{content}");
    }
    assert_eq!(text(json!({ "content": "é".repeat(9_000) })).0.chars().count(), MOST_TEXT);
}

#[test]
fn attachments_are_bounded() {
    let file = json!({ "id": "5", "filename": "a\n.txt", "size": 3, "url": "https://cdn.discordapp.com/a" });
    let message = heard(json!({ "content": "", "attachments": vec![file; 12] })).unwrap();
    let What::Message { files, .. } = message.what else { panic!() };
    assert_eq!(files.len(), MOST_FILES);
    assert_eq!((files[0].name.as_str(), files[0].size), ("a.txt", Some(3)));
    assert_eq!(files[0].mime, "application/octet-stream");
    assert_eq!(heard(json!({ "content": "", "attachments": [{}, { "url": 7 }] })), None);
}

#[test]
fn names_addresses_and_commands_are_bounded() {
    let long = "n".repeat(5_000);
    let url = "https://cdn.discordapp.com/a";
    let far = json!({ "id": "5", "filename": "far", "url": format!("{url}/{long}") });
    let file = json!({ "id": "5", "filename": long, "content_type": long, "url": url });
    let author = json!({ "id": ALICE, "username": long });
    let message = heard(json!({ "author": author, "attachments": [far, file] })).unwrap();
    assert_eq!(message.person.name.unwrap().len(), MOST_NAME);
    let What::Message { files, .. } = message.what else { panic!() };
    assert_eq!(files.len(), 1, "{files:?}");
    assert_eq!((files[0].name.len(), files[0].mime.len()), (MOST_NAME, MOST_NAME));
    let options = json!([{ "name": "text", "type": 3, "value": "é".repeat(9_000) }]);
    let ask = interaction(2, json!({ "name": "ask", "type": 1, "options": options })).unwrap();
    let What::Command { text, .. } = ask.what else { panic!() };
    assert_eq!(text.chars().count(), MOST_TEXT);
}

fn interaction(kind: u64, data: Value) -> Option<Heard> {
    let event = json!({
        "id": "6", "type": kind, "token": "secret-token", "channel_id": "110", "guild_id": "900",
        "member": { "nick": "Al", "user": { "id": ALICE, "username": "alice" } },
        "message": { "id": "55" }, "data": data,
    });
    read("INTERACTION_CREATE", &event, ME, &servers())
}

#[test]
fn commands_and_buttons_are_heard() {
    let options = json!([{ "name": "text", "type": 3, "value": " why? " }]);
    let ask = interaction(2, json!({ "name": "ASK", "type": 1, "options": options })).unwrap();
    assert!(!format!("{ask:?}").contains("secret-token"));
    assert_eq!(ask.person.name.as_deref(), Some("Al"));
    let What::Command { name, text, token } = ask.what else { panic!() };
    assert_eq!((name.as_str(), text.as_str(), token.expose()), ("ask", "why?", "secret-token"));
    let bare = interaction(2, json!({ "name": "new" })).unwrap();
    assert!(matches!(bare.what, What::Command { text, .. } if text.is_empty()));

    let press = interaction(3, json!({ "component_type": 2, "custom_id": "yes-1" })).unwrap();
    let What::Press { key, message_id, .. } = press.what else { panic!() };
    assert_eq!((key.as_str(), message_id.as_deref()), ("yes-1", Some("55")));

    for (kind, data) in [
        (1, json!({})),
        (2, json!({ "name": "Look up", "type": 2 })),
        (2, json!({ "name": 7 })),
        (3, json!({ "component_type": 2 })),
        (4, json!({ "name": "ask" })),
        (5, json!({ "custom_id": "x" })),
    ] {
        assert_eq!(interaction(kind, data.clone()), None, "{kind} {data}");
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let word = prop_oneof![
        Just("<@1> <#2> <@&3>".to_owned()),
        Just("<<:a:1><".to_owned()),
        "[0-9]{1,20}",
        ".{0,12}",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        word.prop_map(Value::from),
    ];
    let field = prop::sample::select(vec![
        "id",
        "type",
        "author",
        "member",
        "user",
        "content",
        "mentions",
        "attachments",
        "guild_id",
        "channel_id",
        "channel",
        "data",
        "options",
        "name",
        "value",
        "token",
        "custom_id",
        "url",
        "referenced_message",
        "channels",
        "threads",
        "roles",
        "tags",
        "parent_id",
        "message",
        "nick",
    ]);
    leaf.prop_recursive(5, 64, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(field.clone(), inner, 0..10).prop_map(|fields| {
                fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
            }),
        ]
    })
}

proptest! {
    /// Whatever comes in, nothing breaks, and what is made of it is bounded.
    #[test]
    fn any_json_is_survived(data in any_json(), author in any_json()) {
        let servers = servers();
        for event in ["GUILD_CREATE", "THREAD_CREATE", "THREAD_LIST_SYNC", "INTERACTION_CREATE"] {
            servers.learn(event, &data, ME);
        }
        let _ = read("INTERACTION_CREATE", &data, ME, &servers);
        let _ = read("MESSAGE_CREATE", &data, ME, &servers);
        let change = json!({ "content": data.get("content"), "mentions": data.get("mentions"),
                             "attachments": data, "member": author, "referenced_message": author });
        if let Some(Heard { what: What::Message { text, files, .. }, .. }) = heard(change) {
            prop_assert!(text.chars().count() <= MOST_TEXT && files.len() <= MOST_FILES);
        }
    }
}
