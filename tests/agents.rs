//! The client against a real server of the official A2A SDK, in both dialects: `tests/clients/a2a.sh` starts it.
//!
//! `HERALD_TEST_A2A_03` and `HERALD_TEST_A2A_10` hold the servers' URLs. Without them there is nothing to test, unless
//! `HERALD_TEST_REQUIRE_A2A` says that this is a failure.

use std::sync::Arc;
use std::time::Duration;

use herald::a2a::{
    AgentCard, Caller, Cancel, Client, Config, Content, Error, File, OutPart, Outcome, Outgoing,
    Pause, Run, Snapshot, State, Update, UserId, Verdict,
};
use herald::clock::SystemClock;
use herald::platform::http::{HttpClient, Settings};
use serde_json::Map;

/// One agent, and one conversation with it.
struct Talk {
    client: Client,
    context_id: String,
}

impl Talk {
    fn with(url: &str) -> Self {
        let settings = Settings { proxy_from_environment: false, ..Settings::default() };
        let http = HttpClient::new(&settings).unwrap();
        let config = Config { user_id: UserId::None, ..Config::default() };
        let client = Client::new(&config, url.parse().unwrap(), http, Arc::new(SystemClock));
        Self { client, context_id: uuid::Uuid::now_v7().to_string() }
    }

    fn anew(&self) -> Self {
        let context_id = uuid::Uuid::now_v7().to_string();
        Self { client: self.client.clone(), context_id }
    }

    async fn say(&self, content: Content, task_id: Option<String>) -> Result<Run, Error> {
        let message = Outgoing {
            message_id: uuid::Uuid::now_v7().to_string(),
            context_id: self.context_id.clone(),
            task_id,
            content,
            metadata: Map::new(),
        };
        self.client.send(&message, &Caller::default()).await
    }

    async fn tell(&self, text: &str) -> Run {
        self.say(words(text), None).await.unwrap()
    }

    /// The answer to `text`.
    async fn ask(&self, text: &str) -> Outcome {
        ended(self.tell(text).await).await
    }
}

fn words(text: &str) -> Content {
    Content::Parts(vec![OutPart::Text(text.to_owned())])
}

async fn ended(mut run: Run) -> Outcome {
    let end = async {
        while let Some(update) = run.next().await {
            if let Update::Ended(outcome) = update {
                return outcome;
            }
        }
        panic!("a run has to end");
    };
    tokio::time::timeout(Duration::from_secs(60), end).await.unwrap()
}

fn completed(outcome: &Outcome, text: &str) {
    assert_eq!((&outcome.state, outcome.answer.text.as_str()), (&State::Completed, text));
}

async fn is_spoken_with(url: &str, dialect: &str) {
    let talk = Talk::with(url);
    let card: AgentCard = talk.client.card().await.unwrap();
    assert_eq!((card.name.as_str(), card.dialect.as_str()), ("live", dialect));

    completed(&talk.ask("ping").await, "pong");
    let message = talk.anew().ask("message").await;
    completed(&message, "only a message");
    assert_eq!(message.task_id, None);
    completed(&talk.anew().ask("stream").await, "one two three");
    completed(&talk.anew().ask("slow 1.5").await, "slept");

    keeps_its_memory(&talk.anew()).await;
    fails_in_words(&talk.anew()).await;
    takes_files(&talk.anew()).await;
    asks_back(&talk.anew()).await;
    waits_for_permission(&talk.anew()).await;
    is_cancelled(&talk.anew()).await;
    survives_a_broken_stream(&talk.anew()).await;
    is_resumed(&talk.anew()).await;
}

async fn keeps_its_memory(talk: &Talk) {
    talk.ask("remember the milk").await;
    completed(&talk.ask("recall").await, "2 messages, the first: remember the milk");
    completed(&talk.anew().ask("recall").await, "1 messages, the first: recall");
}

async fn fails_in_words(talk: &Talk) {
    let failed = talk.ask("fail").await;
    assert_eq!(failed.state, State::Failed { message: "the model refused".to_owned() });
}

async fn takes_files(talk: &Talk) {
    let file = File {
        name: Some("a.bin".to_owned()),
        mime: Some("application/octet-stream".to_owned()),
        bytes: (0..=255).collect(),
    };
    let parts = vec![OutPart::Text("file".to_owned()), OutPart::File(file.clone())];
    let outcome = ended(talk.say(Content::Parts(parts), None).await.unwrap()).await;
    completed(&outcome, "");
    assert_eq!(outcome.answer.files, [file]);
}

async fn asks_back(talk: &Talk) {
    let asked = talk.ask("ask").await;
    assert_eq!(asked.state, State::InputRequired(Pause::Text("Which colour?".to_owned())));
    let answered = ended(talk.say(words("blue"), asked.task_id.clone()).await.unwrap()).await;
    completed(&answered, "you said blue");
    assert_eq!(answered.task_id, asked.task_id);
    let over = talk.say(words("green"), asked.task_id).await.unwrap_err();
    assert!(matches!(over, Error::TaskOver { .. }), "{over:?}");
    let unknown = talk.say(words("green"), Some("nope".to_owned())).await.unwrap_err();
    assert_eq!(unknown, Error::UnknownTask);
}

async fn waits_for_permission(talk: &Talk) {
    let paused = talk.ask("approve").await;
    let State::InputRequired(Pause::Approval(approval)) = &paused.state else {
        panic!("{paused:?}");
    };
    assert_eq!(approval.tools.len(), 1);
    assert_eq!(approval.tools[0].args["path"], "/data/example");
    let task_id = paused.task_id.clone().unwrap();
    let now = talk.client.task(&task_id, &Caller::default()).await.unwrap();
    assert_eq!(now.pause(), Some(&Pause::Approval(approval.clone())));
    let decision = Content::Decision(approval.decide("1 approved", |_| Verdict::Approve));
    let done = ended(talk.say(decision.clone(), paused.task_id.clone()).await.unwrap()).await;
    completed(&done, "deleted");
    let twice = talk.say(decision, paused.task_id).await.unwrap_err();
    assert!(matches!(twice, Error::AlreadyDecided { .. }), "{twice:?}");
}

async fn is_cancelled(talk: &Talk) {
    let run = talk.tell("wait").await;
    let task_id = run.task_id().unwrap().to_owned();
    let cancelled = talk.client.cancel(&task_id, &Caller::default()).await;
    assert_eq!(cancelled, Ok(Cancel::Cancelled));
    assert_eq!(ended(run).await.state, State::Canceled);
    let again = talk.client.cancel(&task_id, &Caller::default()).await.unwrap();
    assert!(matches!(again, Cancel::AlreadyOver | Cancel::Cancelled), "{again:?}");
}

/// The server breaks the connection after two events; the task goes on, and its end is heard.
async fn survives_a_broken_stream(talk: &Talk) {
    let mut run = talk.tell("drop").await;
    let mut heard = Vec::new();
    while !heard.contains(&Update::Text("before, ".to_owned())) {
        heard.push(run.next().await.unwrap());
    }
    assert!(heard.contains(&Update::Task { id: run.task_id().unwrap().to_owned() }));
    completed(&talk.ask("release").await, "released");
    completed(&ended(run).await, "before, after");
    completed(&talk.ask("recall").await, "3 messages, the first: drop");
}

/// Another process takes a running task over.
async fn is_resumed(talk: &Talk) {
    let run = talk.tell("wait").await;
    let task_id = run.task_id().unwrap().to_owned();
    drop(run);
    let working = talk.client.task(&task_id, &Caller::default()).await.unwrap();
    assert!(matches!(working, Snapshot::Working { .. }), "{working:?}");
    let mut resumed = talk.client.resume(&task_id, &Caller::default());
    assert_eq!(resumed.next().await, Some(Update::Task { id: task_id }));
    completed(&talk.ask("release").await, "released");
    completed(&ended(resumed).await, "before, after");
}

async fn live(variable: &str, dialect: &str) {
    match std::env::var(variable) {
        Ok(url) => is_spoken_with(&url, dialect).await,
        Err(_) => {
            let required = std::env::var_os("HERALD_TEST_REQUIRE_A2A").is_some();
            assert!(!required, "{variable} has to hold the URL of an agent");
        }
    }
}

#[tokio::test]
async fn an_agent_of_the_official_sdk_in_0_3() {
    live("HERALD_TEST_A2A_03", "0.3").await;
}

#[tokio::test]
async fn an_agent_of_the_official_sdk_in_1_0() {
    live("HERALD_TEST_A2A_10", "1.0").await;
}
