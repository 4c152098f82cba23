use serde_json::{Value, json};

use super::{Served, json as answer, serve};

async fn call(served: &Served, method: &str, arguments: Value) -> Value {
    let (status, body) = answer(served.slack(method).json(&arguments)).await;
    assert_eq!(status, 200, "{method}: {body}");
    body
}

/// As the official SDKs call methods that read.
async fn form(served: &Served, method: &str, arguments: &[(&str, &str)]) -> Value {
    answer(served.slack(method).form(arguments)).await.1
}

async fn post(served: &Served, arguments: Value) -> Value {
    call(served, "chat.postMessage", arguments).await
}

fn markdown(text: &str) -> Value {
    json!([{ "type": "markdown", "text": text }])
}

#[tokio::test]
async fn a_message_is_kept_as_sent_and_answered_in_slacks_form() {
    let served = serve().await;
    let sent = json!({
        "channel": "C0ALERTS", "text": "hi", "blocks": markdown("**hi**"),
        "unfurl_links": false, "metadata": { "event_type": "herald", "event_payload": { "key": "k" } },
    });
    let body = post(&served, sent.clone()).await;
    assert_eq!(body["ok"], true);
    assert_eq!(body["channel"], "C0ALERTS");
    assert_eq!(body["ts"], "1790000000.000000");
    assert_eq!(body["message"]["bot_id"], "B0HERALD");
    assert_eq!(body["message"]["metadata"]["event_payload"]["key"], "k");
    let messages = served.world.messages("slack:C0ALERTS");
    assert_eq!(messages.len(), 1);
    assert_eq!(messages[0].text, "**hi**");
    assert_eq!(messages[0].payload, sent);
    assert_eq!(messages[0].received_at, super::START);
    assert!(!messages[0].pinged_everyone);
    assert!(served.world.messages("slack:C0GENERAL").is_empty());

    // The clock stands still and the next one is later all the same.
    let next = post(&served, json!({ "channel": "C0ALERTS", "text": "two" })).await;
    assert_eq!(next["ts"], "1790000000.000001");
}

#[tokio::test]
async fn what_slack_refuses_to_post() {
    let served = serve().await;
    let many: Vec<Value> = (0..51).map(|_| json!({ "type": "divider" })).collect();
    let half = "x".repeat(6001);
    let cases = [
        (json!({ "channel": "C0NOWHERE", "text": "x" }), "channel_not_found"),
        (json!({ "text": "x" }), "channel_not_found"),
        (json!({ "channel": "C0OUTSIDE", "text": "x" }), "not_in_channel"),
        (json!({ "channel": "C0ARCHIVE", "text": "x" }), "is_archived"),
        (json!({ "channel": "C0ALERTS" }), "no_text"),
        (json!({ "channel": "C0ALERTS", "text": " " }), "no_text"),
        (json!({ "channel": "C0ALERTS", "text": "x", "txet": "y" }), "invalid_arguments"),
        (json!({ "channel": "C0ALERTS", "text": "x", "thread_ts": "1.2" }), "invalid_thread_ts"),
        (
            json!({ "channel": "C0ALERTS", "text": "x", "thread_ts": 1790000000.0 }),
            "invalid_thread_ts",
        ),
        (
            json!({ "channel": "C0ALERTS", "text": "x", "thread_ts": "1790000000.000009" }),
            "thread_not_found",
        ),
        (
            json!({ "channel": "C0ALERTS", "text": "x", "markdown_text": "y" }),
            "markdown_text_conflict",
        ),
        (json!({ "channel": "C0ALERTS", "markdown_text": "y".repeat(12_001) }), "msg_too_long"),
        (json!({ "channel": "C0ALERTS", "blocks": many }), "msg_blocks_too_many"),
        (
            json!({ "channel": "C0ALERTS", "blocks": markdown(&"y".repeat(12_001)) }),
            "msg_blocks_too_long",
        ),
        (
            json!({ "channel": "C0ALERTS", "blocks": [
                { "type": "markdown", "text": half }, { "type": "markdown", "text": half },
            ] }),
            "msg_blocks_too_long",
        ),
        (json!({ "channel": "C0ALERTS", "blocks": "x" }), "invalid_blocks_format"),
        (json!({ "channel": "C0ALERTS", "blocks": ["x"] }), "invalid_blocks"),
        (
            json!({ "channel": "C0ALERTS", "blocks": [{ "type": "poem", "text": "x" }] }),
            "invalid_blocks",
        ),
        (json!({ "channel": "C0ALERTS", "blocks": [{ "type": "markdown" }] }), "invalid_blocks"),
        (
            json!({ "channel": "C0ALERTS", "blocks": [{ "type": "markdown", "text": "x", "verbatim": true }] }),
            "invalid_blocks",
        ),
        (
            json!({ "channel": "C0ALERTS", "blocks": [
                { "type": "section", "text": { "type": "mrkdwn", "text": "x".repeat(3001) } },
            ] }),
            "invalid_blocks",
        ),
        (
            json!({ "channel": "C0ALERTS", "blocks": [{ "type": "header", "text": { "type": "mrkdwn", "text": "x" } }] }),
            "invalid_blocks",
        ),
        (
            json!({ "channel": "C0ALERTS", "text": "x", "metadata": { "event_payload": {} } }),
            "invalid_metadata_format",
        ),
    ];
    for (arguments, error) in cases {
        let body = post(&served, arguments.clone()).await;
        assert_eq!(body["ok"], false, "{error}");
        assert_eq!(body["error"], error, "{arguments}");
        assert_eq!(served.last_outcome(), error);
    }
    for channel in ["C0ALERTS", "C0ARCHIVE", "C0OUTSIDE"] {
        assert!(served.world.messages(&format!("slack:{channel}")).is_empty());
    }
}

#[tokio::test]
async fn text_at_the_limits() {
    let served = serve().await;
    let at = json!({ "channel": "C0ALERTS", "blocks": markdown(&"é".repeat(12_000)) });
    assert_eq!(post(&served, at).await["ok"], true);

    // Over 4,000 characters Slack makes several messages of it and returns one ts.
    let body = post(&served, json!({ "channel": "C0GENERAL", "text": "y".repeat(4001) })).await;
    assert_eq!(body["ok"], true);
    let lengths: Vec<usize> =
        served.world.messages("slack:C0GENERAL").iter().map(|m| m.text.len()).collect();
    assert_eq!(lengths, [4000, 1]);

    let body = post(&served, json!({ "channel": "C0GENERAL", "text": "y".repeat(40_001) })).await;
    let warnings = &body["response_metadata"]["warnings"];
    assert!(warnings.as_array().unwrap().contains(&json!("message_truncated")), "{body}");
}

#[tokio::test]
async fn bodies_and_tokens() {
    let served = serve().await;
    let url = served.url("/sandbox/slack/api/auth.test");
    let none = answer(served.client.post(&url)).await.1;
    assert_eq!(none["error"], "not_authed");
    let wrong = answer(served.client.post(&url).bearer_auth("xoxb-wrong")).await;
    assert_eq!((wrong.0, &wrong.1["error"]), (200, &json!("invalid_auth")));

    let me = served.slack("auth.test").send().await.unwrap();
    assert!(me.headers()["x-oauth-scopes"].to_str().unwrap().contains("chat:write"));
    assert_eq!(super::read(me).await.1["bot_id"], "B0HERALD");

    let empty = served.slack("auth.test").header("content-type", "application/json;charset=utf-8");
    assert_eq!(answer(empty).await.1["ok"], true);

    let blocks = markdown("**x**").to_string();
    let sent =
        form(&served, "chat.postMessage", &[("channel", "C0ALERTS"), ("blocks", &blocks)]).await;
    assert_eq!(sent["ok"], true);
    let bad = form(&served, "chat.postMessage", &[("channel", "C0ALERTS"), ("blocks", "[")]).await;
    assert_eq!(bad["error"], "invalid_blocks_format");

    let broken =
        served.slack("chat.postMessage").header("content-type", "application/json").body("{");
    assert_eq!(answer(broken).await.1["error"], "invalid_json");
    assert_eq!(call(&served, "chat.postMassage", json!({})).await["error"], "unknown_method");

    let warned = post(&served, json!({ "channel": "C0ALERTS", "text": "x" })).await;
    assert_eq!(warned["warning"], "missing_charset");
}

#[tokio::test]
async fn threads_edits_deletions_and_links() {
    let served = serve().await;
    let parent = post(&served, json!({ "channel": "C0ALERTS", "text": "parent" })).await;
    let parent = parent["ts"].as_str().unwrap();
    let reply =
        post(&served, json!({ "channel": "C0ALERTS", "text": "reply", "thread_ts": parent })).await;
    assert_eq!(reply["message"]["thread_ts"], parent);
    let reply = reply["ts"].as_str().unwrap();
    // A reply to a reply stands in the same thread.
    post(&served, json!({ "channel": "C0ALERTS", "text": "again", "thread_ts": reply })).await;
    let threads: Vec<_> =
        served.world.messages("slack:C0ALERTS").iter().map(|m| m.thread.clone()).collect();
    assert_eq!(threads, [None, Some(parent.to_owned()), Some(parent.to_owned())]);

    let link =
        form(&served, "chat.getPermalink", &[("channel", "C0ALERTS"), ("message_ts", reply)]).await;
    assert_eq!(
        link["permalink"],
        format!(
            "https://sandbox.slack.com/archives/C0ALERTS/p{}?thread_ts={parent}&cid=C0ALERTS",
            reply.replace('.', "")
        )
    );

    let edit = json!({ "channel": "C0ALERTS", "ts": parent, "text": "edited" });
    assert_eq!(call(&served, "chat.update", edit).await["text"], "edited");
    let long = json!({ "channel": "C0ALERTS", "ts": parent, "text": "x".repeat(4001) });
    assert_eq!(call(&served, "chat.update", long).await["error"], "msg_too_long");
    let unknown = json!({ "channel": "C0ALERTS", "ts": "1.000001", "text": "x" });
    assert_eq!(call(&served, "chat.update", unknown).await["error"], "message_not_found");

    let gone = json!({ "channel": "C0ALERTS", "ts": reply });
    assert_eq!(call(&served, "chat.delete", gone.clone()).await["ok"], true);
    assert_eq!(call(&served, "chat.delete", gone).await["error"], "message_not_found");
    let messages = served.world.messages("slack:C0ALERTS");
    assert!(messages[0].edited && !messages[0].deleted);
    assert_eq!(messages[0].text, "edited");
    assert!(messages[1].deleted);

    let speech = super::super::Speech {
        channel: "slack:C0ALERTS".to_owned(),
        text: "mine".to_owned(),
        ..Default::default()
    };
    let mine = served.world.speak(&speech).unwrap().unwrap().id;
    let theirs = json!({ "channel": "C0ALERTS", "ts": mine, "text": "x" });
    assert_eq!(call(&served, "chat.update", theirs).await["error"], "cant_update_message");
    let theirs = json!({ "channel": "C0ALERTS", "ts": mine });
    assert_eq!(call(&served, "chat.delete", theirs).await["error"], "cant_delete_message");
}

#[tokio::test]
async fn an_update_keeps_what_it_does_not_name() {
    let served = serve().await;
    let sent = json!({ "channel": "C0ALERTS", "text": "x", "blocks": markdown("old") });
    let ts = post(&served, sent).await["ts"].clone();
    let last = || served.world.messages("slack:C0ALERTS").pop().unwrap().text;
    for (update, shown) in [
        (json!({ "text": "new" }), "old"),
        (json!({ "text": "new", "blocks": markdown("newer") }), "newer"),
        (json!({ "text": "new", "blocks": [] }), "new"),
    ] {
        let mut update = update;
        update["channel"] = json!("C0ALERTS");
        update["ts"] = ts.clone();
        assert_eq!(call(&served, "chat.update", update).await["ok"], true);
        assert_eq!(last(), shown);
    }
    let empty = json!({ "channel": "C0ALERTS", "ts": ts, "text": "" });
    assert_eq!(call(&served, "chat.update", empty).await["error"], "no_text");
}

#[tokio::test]
async fn whom_a_message_notifies_is_seen() {
    let served = serve().await;
    let cases: [(serde_json::Value, &[&str]); 10] = [
        (json!({ "text": "<!channel> x <!channel>" }), &["@channel"]),
        (json!({ "text": "<!here|here> x" }), &["@here"]),
        (json!({ "blocks": markdown("x <!everyone>") }), &["@everyone"]),
        (
            json!({ "blocks": markdown("<@U0ALICE> <!subteam^S0OPS|@ops>") }),
            &["@U0ALICE", "@S0OPS"],
        ),
        (json!({ "text": "<!channel>", "blocks": markdown("calm") }), &[]),
        (json!({ "text": "&lt;!channel&gt; @channel @U0ALICE" }), &[]),
        (json!({ "text": "<!channel>", "mrkdwn": false }), &[]),
        (json!({ "text": "<!channels> <!\u{200b}here> <@alice> <@\u{200b}U0ALICE>" }), &[]),
        (json!({ "text": "<!here <@U0ALICE" }), &[]),
        (json!({ "text": "<https://x.example|<!here>" }), &["@here"]),
    ];
    for (mut arguments, pings) in cases {
        arguments["channel"] = json!("C0ALERTS");
        assert_eq!(post(&served, arguments.clone()).await["ok"], true);
        let last = served.world.messages("slack:C0ALERTS").pop().unwrap();
        assert_eq!(last.pings, pings, "{arguments}");
        let everyone = ["@channel", "@here", "@everyone"].iter().any(|word| pings.contains(word));
        assert_eq!(last.pinged_everyone, everyone, "{arguments}");
    }
}

#[tokio::test]
async fn conversations() {
    let served = serve().await;
    let info = form(&served, "conversations.info", &[("channel", "C0ARCHIVE")]).await;
    assert_eq!(info["channel"]["is_archived"], true);
    let info = form(&served, "conversations.info", &[("channel", "C0OUTSIDE")]).await;
    assert_eq!(info["channel"]["is_member"], false);
    // Methods that read do not read JSON.
    let info = call(&served, "conversations.info", json!({ "channel": "C0ALERTS" })).await;
    assert_eq!(info["error"], "invalid_arguments");

    let mut names = Vec::new();
    let mut cursor = String::new();
    loop {
        let arguments = [
            ("limit", "2"),
            ("types", "public_channel,private_channel"),
            ("cursor", cursor.as_str()),
        ];
        let page = form(&served, "conversations.list", &arguments).await;
        assert!(page["channels"].as_array().unwrap().len() <= 2);
        for channel in page["channels"].as_array().unwrap() {
            names.push(channel["id"].as_str().unwrap().to_owned());
        }
        cursor = page["response_metadata"]["next_cursor"].as_str().unwrap().to_owned();
        if cursor.is_empty() {
            break;
        }
    }
    names.sort();
    assert_eq!(names, ["C0ALERTS", "C0ARCHIVE", "C0GENERAL", "C0OUTSIDE", "C0PRIVATE"]);
    let public = form(&served, "conversations.list", &[("exclude_archived", "true")]).await;
    assert_eq!(public["channels"].as_array().unwrap().len(), 3);
    for (name, value, error) in [
        ("types", "secret", "invalid_types"),
        ("limit", "0", "invalid_limit"),
        ("cursor", "x", "invalid_cursor"),
    ] {
        let refused = form(&served, "conversations.list", &[(name, value)]).await;
        assert_eq!(refused["error"], error);
    }
}

#[tokio::test]
async fn history_tells_the_metadata_when_asked() {
    let served = serve().await;
    let metadata = json!({ "event_type": "herald", "event_payload": { "key": "k1" } });
    let first =
        post(&served, json!({ "channel": "C0ALERTS", "text": "one", "metadata": metadata })).await;
    post(&served, json!({ "channel": "C0ALERTS", "text": "in", "thread_ts": first["ts"] })).await;
    post(&served, json!({ "channel": "C0ALERTS", "text": "two" })).await;

    let arguments = [("channel", "C0ALERTS"), ("include_all_metadata", "true"), ("limit", "10")];
    let history = form(&served, "conversations.history", &arguments).await;
    let texts: Vec<_> =
        history["messages"].as_array().unwrap().iter().map(|m| &m["text"]).collect();
    assert_eq!(texts, ["two", "one"], "newest first, replies apart");
    assert_eq!(history["messages"][1]["metadata"], metadata);
    let silent = form(&served, "conversations.history", &[("channel", "C0ALERTS")]).await;
    assert_eq!(silent["messages"][1]["metadata"], json!({ "event_type": "herald" }));

    let ts = first["ts"].as_str().unwrap();
    let later = [("channel", "C0ALERTS"), ("oldest", ts)];
    let later = form(&served, "conversations.history", &later).await;
    assert_eq!(later["messages"].as_array().unwrap().len(), 1);
    let replies =
        form(&served, "conversations.replies", &[("channel", "C0ALERTS"), ("ts", ts)]).await;
    assert_eq!(replies["messages"].as_array().unwrap().len(), 2);
    let refused = form(&served, "conversations.history", &[("channel", "C0OUTSIDE")]).await;
    assert_eq!(refused["error"], "not_in_channel");
}

#[tokio::test]
async fn history_and_replies_come_in_pages() {
    let served = serve().await;
    let metadata = json!({ "event_type": "herald", "event_payload": { "key": "k1" } });
    let parent = post(&served, json!({ "channel": "C0ALERTS", "text": "0" })).await;
    let parent = parent["ts"].as_str().unwrap();
    for n in 1..=4 {
        let reply = json!({
            "channel": "C0ALERTS", "text": n.to_string(), "thread_ts": parent, "metadata": metadata,
            "reply_broadcast": n == 4,
        });
        post(&served, reply).await;
    }
    let read = async |method: &str, more: &[(&str, &str)]| {
        let all = [&[("channel", "C0ALERTS")], more].concat();
        let page = form(&served, method, &all).await;
        let texts: Vec<String> = page["messages"]
            .as_array()
            .unwrap_or_else(|| panic!("{page}"))
            .iter()
            .map(|m| m["text"].as_str().unwrap().to_owned())
            .collect();
        (texts.join(" "), page)
    };
    let (texts, page) = read("conversations.replies", &[("ts", parent), ("limit", "2")]).await;
    assert_eq!((texts.as_str(), &page["has_more"]), ("0 1", &json!(true)), "oldest first");
    let cursor = page["response_metadata"]["next_cursor"].as_str().unwrap();
    let further = [("ts", parent), ("limit", "2"), ("cursor", cursor)];
    let (texts, page) = read("conversations.replies", &further).await;
    assert_eq!(texts, "2 3");
    let cursor = page["response_metadata"]["next_cursor"].as_str().unwrap();
    let last =
        [("ts", parent), ("limit", "2"), ("cursor", cursor), ("include_all_metadata", "true")];
    let (texts, page) = read("conversations.replies", &last).await;
    assert_eq!((texts.as_str(), &page["has_more"]), ("4", &json!(false)));
    assert_eq!(page["messages"][0]["metadata"], metadata);
    let latest = page["messages"][0]["ts"].as_str().unwrap();

    // The parent is shown whatever the bounds; of a reply, the reply alone.
    let since = [("ts", parent), ("oldest", latest), ("inclusive", "true")];
    assert_eq!(read("conversations.replies", &since).await.0, "0 4");
    let (texts, page) = read("conversations.replies", &[("ts", latest)]).await;
    assert_eq!((texts.as_str(), page["messages"][0]["thread_ts"].as_str()), ("4", Some(parent)));
    // What was broadcast stands in the channel as well, newest first.
    assert_eq!(read("conversations.history", &[]).await.0, "4 0");
    assert_eq!(read("conversations.history", &[("latest", latest)]).await.0, "0");

    for (method, more, error) in [
        ("conversations.replies", vec![("ts", "1.000001")], "thread_not_found"),
        ("conversations.history", vec![("oldest", "yesterday")], "invalid_ts_oldest"),
        ("conversations.history", vec![("latest", "now")], "invalid_ts_latest"),
        ("conversations.history", vec![("cursor", "x")], "invalid_cursor"),
        ("conversations.history", vec![("limit", "0")], "invalid_limit"),
    ] {
        let all = [&[("channel", "C0ALERTS")], &more[..]].concat();
        assert_eq!(form(&served, method, &all).await["error"], error, "{more:?}");
    }
}

#[tokio::test]
async fn each_kind_of_channel_needs_a_scope_of_its_own_to_be_read() {
    use super::super::{Fault, FaultKind, Vendor};
    let channels = [
        ("C0ALERTS", "channels:history"),
        ("C0PRIVATE", "groups:history"),
        ("D0ALICE", "im:history"),
    ];
    for (_, missing) in channels {
        let served = serve().await;
        let mut fault = Fault::new(Vendor::Slack, FaultKind::MissingScope).times(0);
        fault.scopes = Some(missing.to_owned());
        served.world.fault(fault);
        for (channel, scope) in channels {
            let posted = post(&served, json!({ "channel": channel, "text": "x" })).await;
            let ts = posted["ts"].as_str().unwrap();
            for method in ["conversations.history", "conversations.replies"] {
                let mut arguments = vec![("channel", channel)];
                if method == "conversations.replies" {
                    arguments.push(("ts", ts));
                }
                let answer = form(&served, method, &arguments).await;
                let refused = answer["error"] == "missing_scope" && answer["needed"] == scope;
                assert_eq!(refused, scope == missing, "{channel}: {answer}");
                assert_eq!(answer["ok"], !refused);
            }
        }
    }
}
