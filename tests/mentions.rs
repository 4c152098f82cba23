//! Mentions call people where the operator lets them, and nowhere else.

use std::path::Path;
use std::time::Duration;

use herald::config::Config;
use serde_json::{Value, json};

use crate::world::{DISCORD, EVERY, FAST, Options, SLACK, Server, TELEGRAM, Workspace, until};

/// Another channel of Slack's that Herald may post to, without any leave.
const ELSEWHERE: &str = "slack:C0GENERAL";

const PATIENT: Duration = Duration::from_secs(10);

const ALL: &str = "[broadcast, groups, people]";

/// Settings that let mentions through in some channels.
fn settings(workspace: &Workspace, file: &Path, mentions: &[(&str, &str)]) -> Config {
    write(file, mentions);
    let mut env = workspace.env();
    env.insert("SLACK_CHANNEL_IDS".to_owned(), "C0ALERTS,C0GENERAL".to_owned());
    let mut config = Config::load(Some(file), &|name| env.get(name).cloned()).unwrap();
    config.slack.pace = Some(FAST);
    config.discord.pace = Some(FAST);
    config.telegram.pace = Some(FAST);
    config.delivery.backoff_ms = 10;
    config
}

fn write(file: &Path, mentions: &[(&str, &str)]) {
    let lines = mentions.iter().map(|(channel, kinds)| format!("\"{channel}\": {kinds}"));
    let lines = lines.collect::<Vec<_>>().join(", ");
    std::fs::write(file, format!("policy: {{mentions: {{{lines}}}}}\n")).unwrap();
}

async fn serve(config: Config, wait: Duration, data: &Path) -> Server {
    Server::with(Options { data_dir: Some(data.to_owned()), wait, config }).await
}

fn warnings(content: &Value) -> Vec<&str> {
    content["warnings"].as_array().unwrap().iter().filter_map(Value::as_str).collect()
}

#[tokio::test]
async fn mentions_call_people_where_they_are_let_through_and_nowhere_else() {
    let workspace = Workspace::open().await;
    let directory = tempfile::tempdir().unwrap();
    let everywhere = EVERY.map(|channel| (channel, ALL));
    let herald = serve(
        settings(&workspace, &directory.path().join("h.yaml"), &everywhere),
        PATIENT,
        directory.path(),
    )
    .await;
    let slack = "@here: **down**, <@U0ALICE> and <!subteam^S0OPS> please; not `<@U0BOB>`";
    let discord =
        "@here: **down**, <@300000000000000001> and <@&42> please; not `<@300000000000000002>`";
    let telegram = "**down**, [Alice](tg://user?id=5000000001) please";
    let person = "a mention of a person was neutralised";
    for (channel, text, pings, told) in [
        (SLACK, slack, vec!["@here", "@U0ALICE", "@S0OPS"], vec![person]),
        (ELSEWHERE, slack, vec![], vec!["broadcast", "person", "group"]),
        (DISCORD, discord, vec!["@here", "@300000000000000001", "@&42"], vec![person]),
        (TELEGRAM, telegram, vec!["@5000000001"], vec![]),
    ] {
        let answer = herald.client.send(channel, text).await;
        assert_eq!(answer.content["status"], "delivered", "{channel}: {answer:?}");
        let shown = workspace.world.messages(channel).pop().unwrap();
        assert_eq!(shown.pings, pings, "{channel}: {shown:?}");
        let warnings = warnings(&answer.content);
        assert_eq!(warnings.len(), told.len(), "{channel}: {warnings:?}");
        for word in told {
            assert!(warnings.iter().any(|warning| warning.contains(word)), "{warnings:?}");
        }
    }
    let shown = workspace.texts(SLACK).pop().unwrap();
    assert_eq!(
        shown.replace('\u{200b}', ""),
        "<!here>: **down**, <@U0ALICE> and <!subteam^S0OPS> please; not `<@U0BOB>`"
    );
    herald.stop().await;
}

#[tokio::test]
async fn discord_is_told_which_kinds_call_and_whom_it_answers_is_not_called() {
    let workspace = Workspace::open().await;
    let directory = tempfile::tempdir().unwrap();
    let leave = [(DISCORD, "[people, groups]")];
    let herald = serve(
        settings(&workspace, &directory.path().join("h.yaml"), &leave),
        PATIENT,
        directory.path(),
    )
    .await;
    let said: herald::sandbox::Speech =
        serde_json::from_value(json!({ "channel": DISCORD, "text": "who is on call?" })).unwrap();
    let asked = workspace.world.speak(&said).unwrap().unwrap().id;
    for (text, parse, pings) in [
        ("nobody", json!([]), vec![]),
        ("<@7> @everyone", json!(["users"]), vec!["@7"]),
        ("<@7> <@&8>", json!(["roles", "users"]), vec!["@7", "@&8"]),
        ("`<@7>` @here", json!([]), vec![]),
    ] {
        let answer = herald.client.send_with(DISCORD, text, json!({ "reply_to": asked })).await;
        assert_eq!(answer.content["status"], "delivered", "{answer:?}");
        let shown = workspace.world.messages(DISCORD).pop().unwrap();
        assert_eq!(shown.reply_to.as_ref(), Some(&asked));
        assert_eq!(shown.pings, pings, "{text}");
        assert_eq!(shown.payload["allowed_mentions"], json!({ "parse": parse }), "{text}");
    }
    herald.stop().await;
}

#[tokio::test]
async fn a_queued_mention_is_stopped_when_its_leave_is_taken_back() {
    let workspace = Workspace::open().await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("h.yaml");
    let config = settings(&workspace, &file, &[(SLACK, ALL), (DISCORD, ALL)]);
    let herald = serve(config, Duration::from_millis(500), directory.path()).await;
    for platform in ["slack", "discord"] {
        workspace.fault(json!({ "platform": platform, "kind": "rate_limit", "retry_after": 5 }));
    }
    let client = &herald.client;
    let queued = async |channel, text| {
        let answer = client.send(channel, text).await;
        assert_eq!(answer.content["status"], "queued", "{answer:?}");
        assert_eq!(warnings(&answer.content), [""; 0]);
        answer.content["delivery_id"].clone()
    };
    let outcome =
        async |id: &Value| client.call("get_delivery", json!({ "delivery_id": id })).await.content;
    // They wait for their platforms; they differ in nothing but whether they call somebody.
    let (slack, discord) = tokio::join!(queued(SLACK, "calm"), queued(DISCORD, "calm"));
    let calm = [slack, discord];
    let (slack, discord) =
        tokio::join!(queued(SLACK, "<@U0ALICE> wake up"), queued(DISCORD, "@everyone wake up"));
    write(&file, &[(ELSEWHERE, ALL)]);
    for (id, calm) in [slack, discord].iter().zip(&calm) {
        until("the mention is given up", async || outcome(id).await["status"] == "failed").await;
        let why = outcome(id).await;
        assert_eq!(why["reason"], "denied", "{why}");
        assert!(why["hint"].as_str().unwrap().contains("have changed"), "{why}");
        assert_eq!(outcome(calm).await["status"], "delivered");
    }
    for channel in [SLACK, DISCORD] {
        assert_eq!(workspace.texts(channel), ["calm"]);
    }
    herald.stop().await;
}
