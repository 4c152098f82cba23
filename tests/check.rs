//! `herald check` finds what is wrong and names the fix: one fault planted at a time.

use std::collections::BTreeMap;
use std::process::{Output, Stdio};
use std::time::Duration;

use axum::Router;
use axum::response::Redirect;
use axum::routing::any;
use futures_util::future::join_all;
use serde_json::{Value, json};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};
use tokio::net::TcpListener;

use crate::world::{Workspace, herald};

/// How a check goes wrong.
struct Case {
    fault: &'static str,
    /// Variables that differ from those of a workspace in which all is well; `{base}` is its address.
    env: &'static [(&'static str, &'static str)],
    plant: fn(&Workspace),
    /// The rows that fail, and no others: what, words of the detail, words of the fix.
    fails: &'static [(&'static str, &'static str, &'static str)],
}

const NOTHING: fn(&Workspace) = |_| {};

const CASES: &[Case] = &[
    Case {
        fault: "a wrong Slack token",
        env: &[("SLACK_BOT_TOKEN", "xoxb-wrong")],
        plant: NOTHING,
        fails: &[("Slack token", "does not accept", "set its new SLACK_BOT_TOKEN")],
    },
    Case {
        fault: "the app-level token in the bot token's place",
        env: &[("SLACK_BOT_TOKEN", "xapp-sandbox-not-a-secret")],
        plant: NOTHING,
        fails: &[("Slack token", "is an app-level token", "Bot User OAuth Token (xoxb-…)")],
    },
    Case {
        fault: "the bot token in the app-level token's place",
        env: &[("SLACK_APP_TOKEN", "xoxb-sandbox-not-a-secret")],
        plant: NOTHING,
        fails: &[("Slack listener", "another kind", "set it to the app-level token (xapp-…)")],
    },
    Case {
        fault: "no scope to post with",
        env: &[],
        plant: |it| {
            it.fault(json!({ "platform": "slack", "kind": "missing_scope", "scopes": "chat:write", "times": 0 }))
        },
        fails: &[(
            "Slack scopes",
            "missing: chat:write",
            "add chat:write under OAuth & Permissions",
        )],
    },
    Case {
        fault: "no scopes to listen with",
        env: &[],
        plant: |it| {
            it.fault(json!({ "platform": "slack", "kind": "missing_scope", "times": 0,
                             "scopes": "app_mentions:read,commands" }));
        },
        fails: &[("Slack scopes", "app_mentions:read, commands", "reinstall the app")],
    },
    Case {
        fault: "a Slack channel that does not exist",
        env: &[("SLACK_CHANNEL_IDS", "C0ALERTS,C0NOWHERE")],
        plant: NOTHING,
        fails: &[("slack:C0NOWHERE", "knows no such channel", "check the ID")],
    },
    Case {
        fault: "a Slack channel without the bot",
        env: &[("SLACK_CHANNEL_IDS", "elsewhere=C0OUTSIDE")],
        plant: NOTHING,
        fails: &[("slack:C0OUTSIDE", "not in the channel", "invite it with /invite @your-bot")],
    },
    Case {
        fault: "an archived Slack channel",
        env: &[("SLACK_CHANNEL_IDS", "C0GENERAL,C0ARCHIVE")],
        plant: NOTHING,
        fails: &[("slack:C0ARCHIVE", "archived", "unarchive it or use another one")],
    },
    Case {
        fault: "Slack out of reach",
        env: &[("SLACK_API_URL", "http://127.0.0.1:1/api")],
        plant: NOTHING,
        fails: &[
            ("Slack token", "the connection was refused", "NetworkPolicy"),
            ("Slack listener", "the connection was refused", "SLACK_API_URL"),
        ],
    },
    Case {
        fault: "a revoked Discord token",
        env: &[],
        plant: |it| it.fault(json!({ "platform": "discord", "kind": "revoked_token", "times": 0 })),
        fails: &[("Discord token", "does not accept", "set a valid DISCORD_BOT_TOKEN")],
    },
    Case {
        fault: "Discord's message content intent is off",
        env: &[],
        plant: |it| {
            it.fault(json!({ "platform": "discord", "kind": "missing_intent", "times": 0 }))
        },
        fails: &[("Discord listener", "message content", "switch on \"Message Content Intent\"")],
    },
    Case {
        fault: "a Discord channel in which the bot may only read",
        env: &[("DISCORD_CHANNEL_IDS", "100000000000000001,100000000000000003")],
        plant: NOTHING,
        fails: &[(
            "discord:100000000000000003",
            "lacks Send Messages",
            "give the bot's role Send Messages",
        )],
    },
    Case {
        fault: "a Discord channel that the bot does not see, and listens in",
        env: &[("DISCORD_CHANNEL_ONLY", "100000000000000001,100000000000000004")],
        plant: NOTHING,
        fails: &[("discord:100000000000000004", "cannot see the channel", "give it View Channel")],
    },
    Case {
        fault: "a revoked Telegram token",
        env: &[],
        plant: |it| {
            it.fault(json!({ "platform": "telegram", "kind": "revoked_token", "times": 0 }))
        },
        fails: &[("Telegram token", "does not accept", "TELEGRAM_BOT_TOKEN")],
    },
    Case {
        fault: "a Telegram chat that does not exist",
        env: &[("TELEGRAM_CHAT_IDS", "-1001999999999")],
        plant: NOTHING,
        fails: &[("telegram:-1001999999999", "knows no such chat", "check the ID")],
    },
    Case {
        fault: "a Telegram group that threw the bot out",
        env: &[("TELEGRAM_CHAT_IDS", "-1001000000001,-1001000000004")],
        plant: NOTHING,
        fails: &[("telegram:-1001000000004", "not in the chat", "add it to the group")],
    },
    Case {
        fault: "a Telegram group that became a supergroup",
        env: &[("TELEGRAM_CHAT_IDS", "-4000000001")],
        plant: NOTHING,
        fails: &[("telegram:-4000000001", "the new ID -1001000000001", "in TELEGRAM_CHAT_IDS")],
    },
    Case {
        fault: "a Telegram group in which the bot may not write",
        env: &[("TELEGRAM_CHAT_IDS", "quiet=-1001000000005")],
        plant: NOTHING,
        fails: &[("telegram:-1001000000005", "may not send", "give it the right to")],
    },
    Case {
        fault: "no agent by that name",
        env: &[("KAGENT_A2A_URL", "{base}/sandbox/agnet/")],
        plant: NOTHING,
        fails: &[("agent default", "404", "correct the namespace and the name in KAGENT_A2A_URL")],
    },
    Case {
        fault: "an agent that wants a token",
        env: &[("KAGENT_A2A_TOKEN", "not-this-one")],
        plant: |it| it.world.agent_token(Some("another")),
        fails: &[("agent default", "401", "set KAGENT_A2A_TOKEN")],
    },
    Case {
        fault: "an agent out of reach",
        env: &[("KAGENT_A2A_URL", "http://127.0.0.1:1/")],
        plant: NOTHING,
        fails: &[(
            "agent default",
            "the connection was refused",
            "host and port in KAGENT_A2A_URL",
        )],
    },
    Case {
        fault: "an agent of another version",
        env: &[("KAGENT_A2A_URL", "{base}/sandbox/agent-0.3/"), ("KAGENT_A2A_VERSION", "1.0")],
        plant: NOTHING,
        fails: &[("agent default", "offers A2A 0.3", "KAGENT_A2A_VERSION")],
    },
    Case {
        fault: "a data directory that cannot be made",
        env: &[("HERALD_DATA_DIR", "/dev/null/herald")],
        plant: NOTHING,
        fails: &[("store", "/dev/null/herald cannot be made", "--data-dir (HERALD_DATA_DIR)")],
    },
    Case {
        fault: "a clock that is five minutes slow",
        env: &[],
        plant: |it| it.world.clock_ahead(300),
        fails: &[("clock", "s behind", "NTP")],
    },
    Case {
        fault: "a Secret without the Slack token",
        env: &[("SLACK_BOT_TOKEN", "")],
        plant: NOTHING,
        fails: &[(
            "settings",
            "SLACK_APP_TOKEN is set and SLACK_BOT_TOKEN is not",
            "set SLACK_BOT_TOKEN",
        )],
    },
    Case {
        fault: "no platform",
        env: &[
            ("SLACK_BOT_TOKEN", ""),
            ("SLACK_APP_TOKEN", ""),
            ("SLACK_CHANNEL_IDS", ""),
            ("DISCORD_BOT_TOKEN", ""),
            ("DISCORD_CHANNEL_IDS", ""),
            ("TELEGRAM_BOT_TOKEN", ""),
            ("TELEGRAM_CHAT_IDS", ""),
        ],
        plant: NOTHING,
        fails: &[("platforms", "none is configured", "set SLACK_BOT_TOKEN")],
    },
];

/// What all is asked where all is well.
const ROWS: [&str; 15] = [
    "store",
    "queues",
    "clock",
    "settings",
    "Slack token",
    "Slack scopes",
    "Slack history",
    "Slack listener",
    "slack:C0GENERAL",
    "slack:C0ALERTS",
    "Discord token",
    "Discord listener",
    "discord:100000000000000001",
    "Telegram token",
    "Telegram listener",
];

async fn check(env: &BTreeMap<String, String>, arguments: &[&str]) -> Output {
    let running = herald(env).arg("check").args(arguments).output();
    tokio::time::timeout(Duration::from_secs(30), running).await.unwrap().unwrap()
}

fn rows(output: &Output) -> Vec<Value> {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
}

fn text<'a>(row: &'a Value, key: &str) -> &'a str {
    row[key].as_str().unwrap_or_default()
}

/// Nothing was taken away from a bot that runs, nothing was said, nothing was asked of the agent that it would act on.
fn disturbs_nobody(workspace: &Workspace) {
    const HARMLESS: [&str; 15] = [
        "auth.test",
        "apps.connections.open",
        "conversations.info",
        "get_current_user",
        "get_current_application",
        "get_gateway_bot",
        "get_channel",
        "get_guild",
        "get_guild_member",
        "getMe",
        "getChat",
        "getChatMember",
        "getWebhookInfo",
        "agent-card.json",
        "tasks/get",
    ];
    let asked = workspace.world.requests().into_iter().map(|request| request.method);
    let of_agents = workspace.world.agent_requests().into_iter().map(|request| request.method);
    for method in asked.chain(of_agents) {
        assert!(HARMLESS.contains(&method.as_str()) || method == "GetTask", "{method}");
    }
}

async fn play(case: &Case) {
    let fault = case.fault;
    let workspace = Workspace::open().await;
    (case.plant)(&workspace);
    let mut env = workspace.env();
    for (name, value) in case.env {
        env.insert((*name).to_owned(), value.replace("{base}", &workspace.base));
    }
    let output = check(&env, &["-o", "json"]).await;
    let rows = rows(&output);
    assert_eq!(output.status.code(), Some(1), "{fault}: {rows:#?}");
    let failing: Vec<_> = rows.iter().filter(|row| row["ok"] == false).collect();
    let names: Vec<_> = failing.iter().map(|row| text(row, "what")).collect();
    let expected: Vec<_> = case.fails.iter().map(|(what, ..)| *what).collect();
    assert_eq!(names, expected, "{fault}: {rows:#?}");
    for (row, (_, detail, fix)) in failing.iter().zip(case.fails) {
        assert!(text(row, "detail").contains(detail), "{fault}: {row}");
        assert!(text(row, "fix").contains(fix), "{fault}: {row}");
        assert_eq!(text(row, "fix").lines().count(), 1, "{fault}: {row}");
    }
    let shown = String::from_utf8_lossy(&output.stdout);
    for (name, secret) in env.iter().filter(|(name, _)| name.ends_with("_TOKEN")) {
        assert!(secret.is_empty() || !shown.contains(secret), "{fault} shows {name}");
    }
    disturbs_nobody(&workspace);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_planted_fault_is_found_and_its_fix_named() {
    // A few at a time: each is a process.
    for some in CASES.chunks(6) {
        join_all(some.iter().map(play)).await;
    }
}

#[tokio::test]
async fn where_all_is_well_nothing_fails_and_nothing_could_be_better() {
    let workspace = Workspace::open().await;
    let output = check(&workspace.env(), &["-o", "json"]).await;
    let rows = rows(&output);
    assert_eq!(output.status.code(), Some(0), "{rows:#?}");
    let names: Vec<_> = rows.iter().map(|row| text(row, "what")).collect();
    let expected = [&ROWS[..], &["telegram:-1001000000001", "agent default"]].concat();
    assert_eq!(names, expected);
    for row in &rows {
        assert_eq!(row["ok"], true, "{row}");
        assert_eq!(row.get("fix"), None, "{row}");
        assert!(!text(row, "detail").is_empty(), "{row}");
    }
    disturbs_nobody(&workspace);
}

/// What works and could be better is said, and fails nothing.
#[tokio::test]
async fn what_could_be_better_is_no_fault() {
    let workspace = Workspace::open().await;
    workspace.fault(json!({ "platform": "slack", "kind": "missing_scope", "times": 0 }));
    workspace.world.clock_ahead(-90);
    let token = &workspace.env()["TELEGRAM_BOT_TOKEN"];
    let url = format!("{}/sandbox/telegram/bot{token}/setWebhook", workspace.base);
    let hook = json!({ "url": "https://elsewhere.example/Zq7secret" });
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    client.post(url).json(&hook).send().await.unwrap().error_for_status().unwrap();
    let mut env = workspace.env();
    env.insert("TELEGRAM_ALLOWED_USERS".to_owned(), String::new());
    env.insert("DISCORD_CHANNEL_IDS".to_owned(), String::new());
    env.insert("TELEGRAM_CHAT_IDS".to_owned(), "*".to_owned());
    let output = check(&env, &["-o", "json"]).await;
    let rows = rows(&output);
    assert_eq!(output.status.code(), Some(0), "{rows:#?}");
    assert!(!String::from_utf8_lossy(&output.stdout).contains("Zq7secret"));
    for (what, fix) in [
        ("clock", "NTP"),
        ("settings", "set TELEGRAM_ALLOWED_USERS"),
        ("Slack scopes", "add channels:read, files:write"),
        ("slack:C0ALERTS", "channels:read"),
        ("Discord channels", "DISCORD_CHANNEL_IDS"),
        ("Telegram listener", "a token of its own"),
        ("telegram:*", "name them in TELEGRAM_CHAT_IDS"),
    ] {
        let row = rows.iter().find(|row| row["what"] == what);
        assert!(row.is_some_and(|row| text(row, "fix").contains(fix)), "{what}: {rows:#?}");
    }
}

/// An app made with kagent's guide is talked to by slash command alone.
#[tokio::test]
async fn a_slack_app_with_a_slash_command_and_no_more_is_no_fault() {
    let workspace = Workspace::open().await;
    let scopes = "app_mentions:read,channels:history,groups:history,im:history";
    workspace.fault(
        json!({ "platform": "slack", "kind": "missing_scope", "times": 0, "scopes": scopes }),
    );
    let output = check(&workspace.env(), &["-o", "json"]).await;
    let rows = rows(&output);
    assert_eq!(output.status.code(), Some(0), "{rows:#?}");
    let row = rows.iter().find(|row| row["what"] == "Slack scopes").unwrap();
    assert!(text(row, "fix").starts_with("add app_mentions:read, channels:history"), "{row}");
    let row = rows.iter().find(|row| row["what"] == "Slack history").unwrap();
    assert!(text(row, "detail").starts_with("a lost answer is not looked up"), "{row}");
    assert!(row.get("fix").is_none(), "a note, no warning: {row}");
}

/// An agent on the same node has the same clock.
#[tokio::test]
async fn an_agent_that_shares_a_wrong_clock_does_not_hide_it() {
    let (workspace, node) = tokio::join!(Workspace::open(), Workspace::open());
    workspace.world.clock_ahead(300);
    let mut env = workspace.env();
    env.insert("KAGENT_A2A_URL".to_owned(), node.env()["KAGENT_A2A_URL"].clone());
    let rows = rows(&check(&env, &["-o", "json"]).await);
    let failing: Vec<_> = rows.iter().filter(|row| row["ok"] == false).collect();
    let [row] = failing[..] else { panic!("{rows:#?}") };
    assert_eq!(row["what"], "clock");
    assert!(text(row, "detail").contains("s behind"), "{row}");
}

/// What its help says of the store.
#[tokio::test]
async fn the_store_is_brought_up_to_date_as_serve_does() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("herald.db");
    let options = SqliteConnectOptions::new().filename(&file);
    let mut db = options.clone().create_if_missing(true).connect().await.unwrap();
    let first = include_str!("../src/store/sqlite/migrations/1.sql");
    sqlx::raw_sql(first).execute(&mut db).await.unwrap();
    sqlx::query("PRAGMA user_version = 1").execute(&mut db).await.unwrap();
    db.close().await.unwrap();

    let workspace = Workspace::open().await;
    let mut env = workspace.env();
    env.insert("HERALD_DATA_DIR".to_owned(), directory.path().display().to_string());
    let output = check(&env, &["-o", "json"]).await;
    assert!(output.status.success(), "{:#?}", rows(&output));
    let mut db = options.connect().await.unwrap();
    let version: i64 = sqlx::query_scalar("PRAGMA user_version").fetch_one(&mut db).await.unwrap();
    assert!(version > 1, "still {version}");

    let help = check(&env, &["--help"]).await;
    let help = String::from_utf8(help.stdout).unwrap();
    assert!(help.contains("schema") && help.contains("same version"), "{help}");
}

/// An Ingress that sends everything to https, or an agent without its trailing slash behind an old proxy.
#[tokio::test]
async fn an_agent_that_redirects_is_no_agent() {
    let workspace = Workspace::open().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/api/a2a/kagent/k8s", listener.local_addr().unwrap());
    let to = any(async || Redirect::temporary("https://elsewhere.example/"));
    let router = Router::new().fallback_service(to);
    let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let mut env = workspace.env();
    env.insert("KAGENT_A2A_URL".to_owned(), url);
    let rows = rows(&check(&env, &["-o", "json"]).await);
    serving.abort();
    let failing: Vec<_> = rows.iter().filter(|row| row["ok"] == false).collect();
    let [row] = failing[..] else { panic!("{rows:#?}") };
    assert!(text(row, "detail").contains("HTTP 307"), "{row}");
    assert!(text(row, "fix").contains("https instead of http"), "{row}");
}

/// As an init container or a Job does, beside a Herald that serves from the same directory.
#[tokio::test]
async fn it_runs_beside_a_herald_that_serves() {
    let workspace = Workspace::open().await;
    let directory = tempfile::tempdir().unwrap();
    let mut env = workspace.env();
    env.insert("HERALD_DATA_DIR".to_owned(), directory.path().display().to_string());
    // The same port for both: a check binds none.
    env.insert("HERALD_LISTEN".to_owned(), format!("127.0.0.1:{}", crate::world::free_port()));
    let mut serving = herald(&env).arg("serve").stderr(Stdio::null()).spawn().unwrap();
    crate::world::until("it serves", async || {
        directory.path().join("herald.db").exists()
            && reqwest::get(format!("http://{}/readyz", env["HERALD_LISTEN"]))
                .await
                .is_ok_and(|answer| answer.status().is_success())
    })
    .await;
    let (first, second) = tokio::join!(check(&env, &[]), check(&env, &[]));
    for output in [first, second] {
        let shown = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{shown}");
        assert!(shown.contains("19 ok, 0 warn, 0 FAIL"), "{shown}");
        assert!(shown.lines().all(|line| line.chars().count() <= 100), "{shown}");
    }
    assert!(serving.try_wait().unwrap().is_none(), "it goes on");
    serving.kill().await.unwrap();
}
