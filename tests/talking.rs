//! People talk to the agent in the sandbox's channels, over the vendors' inbound APIs, and see what it answers.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use herald::app::{App, Mode, Serves};
use herald::clock::SystemClock;
use herald::config::Config;
use herald::sandbox::{AgentRequest, Message, Press, Speech};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::world::{Workspace, until};

/// A place where somebody talks to the bot, and how the bot is addressed there.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub channel: &'static str,
    pub mention: &'static str,
}

pub const PLACES: [Place; 3] = [
    Place { channel: "slack:C0GENERAL", mention: "<@U0HERALD> " },
    Place { channel: "discord:100000000000000001", mention: "" },
    Place { channel: "telegram:5000000001", mention: "" },
];

/// A bot inside the test's process.
pub struct Bot {
    stop: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
    pub base: String,
    data: tempfile::TempDir,
}

impl Bot {
    pub async fn start(workspace: &Workspace, extra: &[(&str, &str)]) -> Self {
        Self::configured(workspace.config(extra), Duration::from_secs(10)).await
    }

    /// One with settings that have no variable, whose callers wait for so long.
    pub async fn configured(config: Config, wait: Duration) -> Self {
        let data = tempfile::tempdir().unwrap();
        let mode = Mode {
            data_dir: Some(data.path().to_owned()),
            own_only: false,
            deduplicate: true,
            wait,
            serves: Serves::Bot,
        };
        let stop = CancellationToken::new();
        let app = App::build(config, mode, Arc::new(SystemClock), stop.clone()).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let task = tokio::spawn(app.serve(listener, Router::new()));
        let bot = Self { stop, task, base, data };
        bot.until_ready().await;
        bot
    }

    async fn until_ready(&self) {
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        until("every listener is connected", async || {
            let answer = http.get(format!("{}/readyz", self.base)).send().await;
            let Ok(answer) = answer else { return false };
            let report: serde_json::Value = answer.json().await.unwrap();
            let checks = report["checks"].as_object().unwrap().iter();
            let mut listeners = checks.filter(|(name, _)| name.ends_with("_listener"));
            listeners.all(|(_, check)| check["detail"] == "connected")
        })
        .await;
    }

    /// Where it keeps its store.
    pub fn data(&self) -> &std::path::Path {
        self.data.path()
    }

    /// Stops as SIGTERM does, and waits for the end.
    pub async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }
}

/// What the people do and see in one place.
pub struct Talk<'w> {
    workspace: &'w Workspace,
    place: Place,
    /// The thread, once there is one.
    thread: Option<String>,
}

impl<'w> Talk<'w> {
    pub fn new(workspace: &'w Workspace, place: Place) -> Self {
        Self { workspace, place, thread: None }
    }

    pub fn says(&mut self, text: &str) {
        self.says_as("alice", text);
    }

    pub fn says_as(&mut self, author: &str, text: &str) {
        let speech = Speech {
            channel: self.place.channel.to_owned(),
            text: format!("{}{text}", self.place.mention),
            author: Some(author.to_owned()),
            thread: self.thread.clone(),
            ..Speech::default()
        };
        let message = self.workspace.world.speak(&speech).unwrap().unwrap();
        if self.place.channel.starts_with("slack") {
            self.thread.get_or_insert(message.id);
        }
    }

    /// What the bot shows in this thread.
    pub fn shown(&self) -> Vec<Message> {
        let messages = self.workspace.world.messages(self.place.channel).into_iter();
        messages
            .filter(|message| message.bot && !message.deleted && message.thread == self.thread)
            .collect()
    }

    pub async fn sees(&self, text: &str) -> Message {
        // Names are capitalised where the platform has full names.
        let text = text.to_lowercase();
        let found =
            || self.shown().into_iter().find(|message| message.text.to_lowercase().contains(&text));
        let what = format!("{} shows {text:?}; it shows {:?}", self.place.channel, self.texts());
        until(&what, async || found().is_some()).await;
        found().unwrap()
    }

    pub fn texts(&self) -> Vec<String> {
        self.shown().into_iter().map(|message| message.text).collect()
    }

    pub async fn presses(&self, author: &str, label: &str) {
        let find = || {
            self.shown().into_iter().find_map(|message| {
                let button = message.buttons.iter().flatten().find(|b| b.label == label)?;
                Some((message.clone(), button.key.clone()))
            })
        };
        until(&format!("there is a button {label:?}"), async || find().is_some()).await;
        let (message, key) = find().unwrap();
        let press = Press {
            channel: message.channel,
            message: message.id,
            key,
            author: Some(author.to_owned()),
        };
        self.workspace.world.press(&press).unwrap();
    }
}

fn decided(workspace: &Workspace) -> Vec<AgentRequest> {
    let requests = workspace.world.agent_requests().into_iter();
    requests.filter(|request| !request.decisions.is_empty()).collect()
}

fn count(workspace: &Workspace, text: &str) -> usize {
    let asked = |method: &str| method.contains("stream") || method.contains("Stream");
    let requests = workspace.world.agent_requests().into_iter();
    requests.filter(|request| asked(&request.method) && request.text.contains(text)).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_is_answered_where_it_was_asked_and_the_agent_remembers() {
    let workspace = Workspace::open().await;
    let bot = Bot::start(&workspace, &[]).await;
    for place in PLACES {
        let mut talk = Talk::new(&workspace, place);
        talk.says("good morning");
        talk.sees("You said: good morning").await;
        talk.says("remember the blue door");
        talk.sees("blue door").await;
        talk.says("what did I say?");
        talk.sees("good morning").await;
        until("no placeholder is left", async || {
            !talk.texts().iter().any(|text| text.contains("Working on it"))
        })
        .await;
        talk.says("new");
        talk.sees("start afresh").await;
        talk.says("what did I say?");
        until("it remembers nothing", async || {
            talk.texts().last().is_some_and(|text| !text.contains("blue door"))
        })
        .await;
    }
    bot.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_tool_is_approved_and_another_rejected_in_either_dialect() {
    for agent in ["agent-0.3", "agent-1.0"] {
        let workspace = Workspace::open().await;
        let url = format!("{}/sandbox/{agent}/", workspace.base);
        let bot = Bot::start(&workspace, &[("KAGENT_A2A_URL", &url)]).await;
        for (n, place) in PLACES.into_iter().enumerate() {
            let mut talk = Talk::new(&workspace, place);
            talk.says("approve two");
            talk.presses("alice", "Approve k8s_delete_pod").await;
            talk.presses("alice", "Reject k8s_scale").await;
            let card = talk.sees("rejected by alice").await;
            assert!(card.text.to_lowercase().contains("approved by alice"), "{}", card.text);
            until("the card has no buttons", async || {
                let card = talk.shown().into_iter().find(|message| message.id == card.id);
                card.is_some_and(|card| card.buttons.is_empty())
            })
            .await;
            until("the agent heard of it", async || decided(&workspace).len() == n + 1).await;
            let mut verdicts: Vec<bool> =
                decided(&workspace)[n].decisions.values().copied().collect();
            verdicts.sort_unstable();
            assert_eq!(verdicts, [false, true], "{agent}");
            talk.sees("deleted pod").await;
        }
        assert_eq!(decided(&workspace).len(), 3, "{agent}");
        bot.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_may_decide_decides() {
    let workspace = Workspace::open().await;
    let bot = Bot::start(&workspace, &[("HERALD_APPROVERS", "slack:U0BOB")]).await;
    let mut talk = Talk::new(&workspace, PLACES[0]);
    talk.says("approve");
    talk.presses("alice", "Approve k8s_delete_pod").await;
    talk.sees("alice, this is not yours to decide").await;
    talk.says("yes, go ahead");
    talk.sees("waits for a decision").await;
    talk.presses("bob", "Reject k8s_delete_pod").await;
    talk.sees("rejected by bob").await;
    // What was written meanwhile is the next question.
    talk.sees("You said: yes, go ahead").await;
    bot.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_called_off_is_rejected_whatever_was_approved_of_it() {
    let workspace = Workspace::open().await;
    let bot = Bot::start(&workspace, &[]).await;
    let mut talk = Talk::new(&workspace, PLACES[0]);
    talk.says("approve two");
    talk.presses("alice", "Approve k8s_delete_pod").await;
    talk.sees("approved by alice").await;
    talk.says("cancel");
    until("the agent heard of it", async || decided(&workspace).len() == 1).await;
    let verdicts: Vec<bool> = decided(&workspace)[0].decisions.values().copied().collect();
    assert_eq!(verdicts, [false, false]);
    bot.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_is_answered_by_who_was_asked_and_a_thread_by_who_may_talk() {
    let workspace = Workspace::open().await;
    let bot = Bot::start(&workspace, &[("SLACK_ALLOWED_USERS", "U0ALICE,U0BOB")]).await;
    let mut talk = Talk::new(&workspace, PLACES[0]);
    talk.says("good morning");
    talk.sees("You said: good morning").await;
    // In the thread nobody has to name the bot.
    talk.place.mention = "";
    talk.says_as("mallory", "show me the secrets");
    talk.says("question");
    talk.sees("1 of 3").await;
    talk.says_as("bob", "MySQL");
    talk.sees("waits for a decision").await;
    assert!(!talk.texts().iter().any(|text| text.contains("2 of 3")), "{:?}", talk.texts());
    assert_eq!(count(&workspace, "secrets"), 0);
    bot.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_are_answered_by_buttons_and_in_words() {
    let workspace = Workspace::open().await;
    let bot = Bot::start(&workspace, &[]).await;
    for place in PLACES {
        let mut talk = Talk::new(&workspace, place);
        talk.says("question");
        talk.presses("alice", "PostgreSQL").await;
        talk.sees("2 of 3").await;
        talk.presses("alice", "Auth").await;
        talk.presses("alice", "Done").await;
        talk.sees("3 of 3").await;
        talk.says("nothing else");
        talk.sees("Answered by alice").await;
        until("the agent has all answers", async || {
            workspace.world.agent_requests().iter().any(|request| {
                let words: Vec<_> = request.answers.iter().map(|answer| answer.join("+")).collect();
                words == ["PostgreSQL", "Auth", "nothing else"]
            })
        })
        .await;
    }
    bot.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_is_shown_and_a_turn_can_be_cancelled() {
    let workspace = Workspace::open().await;
    let url = format!("{}/sandbox/agent-1.0/", workspace.base);
    let bot = Bot::start(&workspace, &[("KAGENT_A2A_URL", &url)]).await;
    for place in PLACES {
        let mut talk = Talk::new(&workspace, place);
        talk.says("slow 60");
        let placeholder = talk.sees("running").await;
        assert!(placeholder.edited && placeholder.text.contains("k8s_get_pods"), "{placeholder:?}");
        talk.presses("alice", "Cancel").await;
        talk.sees("Cancelled by alice").await;
        talk.says("hello again");
        talk.sees("You said: hello again").await;
    }
    bot.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_cannot_be_stopped_is_ignored_and_that_is_said() {
    let workspace = Workspace::open().await;
    let url = format!("{}/sandbox/agent-0.3/", workspace.base);
    let bot = Bot::start(&workspace, &[("KAGENT_A2A_URL", &url)]).await;
    let mut talk = Talk::new(&workspace, PLACES[1]);
    talk.says("slow 3");
    talk.sees("running").await;
    talk.says("cancel");
    talk.sees("This agent cannot be stopped").await;
    talk.says("hello again");
    talk.sees("You said: hello again").await;
    assert!(!talk.texts().iter().any(|text| text.contains("Cancelled")), "{:?}", talk.texts());
    bot.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_during_a_turn_becomes_the_next_one() {
    let workspace = Workspace::open().await;
    let bot = Bot::start(&workspace, &[]).await;
    for place in PLACES {
        let mut talk = Talk::new(&workspace, place);
        talk.says("slow 2");
        talk.sees("Working on it").await;
        talk.says("first thing");
        talk.says("second thing");
        talk.sees("second thing").await;
        assert_eq!(count(&workspace, "first thing\n\nsecond thing"), 1);
        workspace.world.clear_agent_requests();
    }
    bot.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_is_told_their_own_id_and_nothing_else() {
    let workspace = Workspace::open().await;
    let allowed = [
        ("SLACK_ALLOWED_USERS", "U0ALICE"),
        ("DISCORD_ALLOWED_USERS", "300000000000000001"),
        ("TELEGRAM_ALLOWED_USERS", "5000000001"),
    ];
    let bot = Bot::start(&workspace, &allowed).await;
    let places = [
        (PLACES[0], "U0MALLORY"),
        (PLACES[1], "300000000000000003"),
        (
            Place { channel: "telegram:-1001000000001", mention: "@herald_sandbox_bot " },
            "5000000003",
        ),
    ];
    for (place, id) in places {
        let mut talk = Talk::new(&workspace, place);
        talk.says_as("mallory", "show me the secrets");
        let told = talk.sees(id).await;
        let words = told.text.replace("<code>", "").replace("</code>", "").replace('`', "");
        let (before, after) = words.split_once(&format!(" user ID is {id}; ")).unwrap();
        assert!(before.starts_with("You may not use this bot. Your "), "{words}");
        assert_eq!(after, "give it to whoever runs the bot.");
        assert_eq!(talk.shown().len(), 1);
        let mut allowed = Talk::new(&workspace, place);
        allowed.says("good morning");
        allowed.sees("You said: good morning").await;
    }
    assert_eq!(count(&workspace, "secrets"), 0);
    bot.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_down_is_a_friendly_line() {
    let workspace = Workspace::open().await;
    let nobody = format!("http://127.0.0.1:{}/", crate::world::free_port());
    let bot = Bot::start(&workspace, &[("KAGENT_A2A_URL", &nobody)]).await;
    let mut talk = Talk::new(&workspace, PLACES[0]);
    talk.says("anybody there?");
    talk.sees("cannot be reached").await;
    bot.stop().await;
    let bot = Bot::start(&workspace, &[]).await;
    workspace.world.agent_down(true);
    talk.says("and there?");
    talk.sees("may have received").await;
    workspace.world.agent_down(false);
    talk.says("and now?");
    talk.sees("You said: and now?").await;
    talk.says("fail");
    let failed = talk.sees("could not finish").await;
    assert!(!failed.text.contains("Error code"), "{}", failed.text);
    bot.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_have_been_received_is_asked_again_only_by_a_person() {
    let workspace = Workspace::open().await;
    let bot = Bot::start(&workspace, &[]).await;
    let mut talk = Talk::new(&workspace, PLACES[2]);
    talk.says("lost");
    talk.sees("may have received").await;
    assert_eq!(count(&workspace, "lost"), 1);
    talk.presses("alice", "Ask again").await;
    until("it was asked again", async || count(&workspace, "lost") == 2).await;
    bot.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_asked_again_before_a_person_says_so() {
    let workspace = Workspace::open().await;
    let bot = Bot::start(&workspace, &[]).await;
    let mut talk = Talk::new(&workspace, PLACES[2]);
    talk.says("lost");
    talk.sees("may have received").await;
    talk.says("and now?");
    talk.sees("You said: and now?").await;
    assert_eq!(count(&workspace, "lost"), 1);
    bot.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_connection_loses_no_answer() {
    let workspace = Workspace::open().await;
    let bot = Bot::start(&workspace, &[]).await;
    let mut talk = Talk::new(&workspace, PLACES[1]);
    talk.says("drop");
    until("the answer is there", async || {
        talk.texts().last().is_some_and(|text| !text.contains("Working on it"))
    })
    .await;
    assert_eq!(count(&workspace, "drop"), 1, "never asked twice");
    bot.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_goes_away_during_a_turn_is_waited_for() {
    let workspace = Workspace::open().await;
    let bot = Bot::start(&workspace, &[]).await;
    let mut talk = Talk::new(&workspace, PLACES[1]);
    talk.says("slow 4");
    talk.sees("running").await;
    workspace.world.agent_down(true);
    let before = workspace.world.agent_requests().len();
    until("it is asked how it stands", async || workspace.world.agent_requests().len() > before)
        .await;
    workspace.world.agent_down(false);
    talk.sees("Pod api-0 runs").await;
    assert_eq!(count(&workspace, "slow"), 1, "never asked twice");
    bot.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slash_command_is_answered_even_where_the_bot_is_no_member() {
    let workspace = Workspace::open().await;
    let bot = Bot::start(&workspace, &[]).await;
    for channel in ["slack:C0GENERAL", "slack:C0OUTSIDE"] {
        let command = |text: &str| Speech {
            channel: channel.to_owned(),
            text: format!("/mykagent {text}"),
            author: Some("alice".to_owned()),
            ..Speech::default()
        };
        assert!(workspace.world.speak(&command("remember the red door")).unwrap().is_none());
        let shown = |text: &str| {
            let shown = workspace.world.messages(channel);
            shown.into_iter().find(|message| message.bot && message.text.contains(text))
        };
        until("the question is shown", async || shown("asks").is_some()).await;
        until("the answer is there", async || {
            let shown = workspace.world.messages(channel);
            shown.iter().filter(|message| message.bot && message.text.contains("red door")).count()
                > 1
        })
        .await;
        if channel == "slack:C0GENERAL" {
            // The thread under the question goes on with the conversation.
            let shown = workspace.world.messages(channel);
            let root = shown.iter().find(|message| message.text.contains("asks")).unwrap();
            let follow_up = Speech {
                text: "what did I say?".to_owned(),
                thread: Some(root.id.clone()),
                ..Speech { channel: channel.to_owned(), ..Speech::default() }
            };
            workspace.world.speak(&follow_up).unwrap();
        } else {
            workspace.world.speak(&command("what did I say?")).unwrap();
        }
        until("it remembers", async || {
            let asked = workspace.world.agent_requests();
            let contexts: Vec<_> = asked
                .iter()
                .filter(|request| {
                    request.text.contains("door") || request.text.contains("what did")
                })
                .filter_map(|request| request.context_id.clone())
                .collect();
            contexts.len() == 2 && contexts[0] == contexts[1]
        })
        .await;
        workspace.world.clear_agent_requests();
    }
    bot.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_go_both_ways() {
    let workspace = Workspace::open().await;
    let bot = Bot::start(&workspace, &[]).await;
    for place in PLACES {
        let mut talk = Talk::new(&workspace, place);
        talk.says("file");
        until("the agent's file is there", async || {
            talk.shown().iter().any(|message| !message.files.is_empty())
        })
        .await;
        let upload = |name: &str, mime: &str| herald::sandbox::Upload {
            name: name.to_owned(),
            mime: mime.to_owned(),
            base64: "aGVsbG8=".to_owned(),
        };
        let speech = Speech {
            channel: place.channel.to_owned(),
            text: format!("{}look at these", place.mention),
            thread: talk.thread.clone(),
            files: vec![
                upload("notes.txt", "text/plain"),
                upload("virus.exe", "application/x-dosexec"),
            ],
            ..Speech::default()
        };
        workspace.world.speak(&speech).unwrap();
        talk.sees("look at these").await;
        let asked = workspace.world.agent_requests();
        let request = asked.iter().rfind(|request| request.text.contains("look at")).unwrap();
        assert!(request.files.contains(&"notes.txt".to_owned()), "{:?}", request.files);
        if place.channel.starts_with("telegram") {
            continue; // One file a message there.
        }
        assert!(request.text.contains("virus.exe") && request.text.contains("not passed on"));
    }
    bot.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slack_over_http_works_like_socket_mode() {
    let secret = "8f742231b10e8888abcd99ffff85a5e1";
    let workspace = Workspace::open().await;
    let extra = [("SLACK_APP_TOKEN", ""), ("SLACK_SIGNING_SECRET", secret)];
    let bot = Bot::start(&workspace, &extra).await;
    let url = format!("{}/slack/events", bot.base);
    workspace.world.slack_request_url(&url, secret).await.unwrap();
    let mut talk = Talk::new(&workspace, PLACES[0]);
    talk.says("approve");
    talk.presses("alice", "Approve k8s_delete_pod").await;
    talk.sees("approved by alice").await;
    talk.sees("deleted pod").await;
    let command = Speech {
        channel: "slack:C0GENERAL".to_owned(),
        text: "/mykagent good evening".to_owned(),
        ..Speech::default()
    };
    assert!(workspace.world.speak(&command).unwrap().is_none());
    until("the command is answered", async || {
        workspace
            .texts("slack:C0GENERAL")
            .iter()
            .any(|text| text.contains("You said: good evening"))
    })
    .await;
    bot.stop().await;
}
