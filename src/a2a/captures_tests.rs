//! Every capture of kagent's traffic, replayed: `tests/fixtures/a2a/`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::client::Client;
use super::config::{Config, Version};
use super::dialect::{Dialect, HITL};
use super::error::Error;
use super::pause::{Approval, Pause, Shape, ToolCall, Verdict};
use super::read::Reader;
use super::scripted::{Agent, Reply, Seen, caller, client_over, quick, told};
use super::turn::{Caller, Content, OutPart, Outcome, Outgoing, Snapshot, State};
use super::wire;
use crate::platform::http::HttpClient;
use crate::platform::scripted;

/// A folder of captures, and which of its files a test has used.
#[derive(Clone)]
struct Captures {
    folder: PathBuf,
    used: Arc<Mutex<BTreeSet<String>>>,
    http: HttpClient,
}

impl Captures {
    fn of(kagent: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/a2a").join(kagent);
        Self { folder, used: Arc::default(), http: scripted::client() }
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        self.used.lock().unwrap().insert(name.to_owned());
        std::fs::read(self.folder.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&self.bytes(name)).unwrap()
    }

    fn has(&self, name: &str) -> bool {
        self.folder.join(name).exists()
    }

    fn names(&self) -> BTreeSet<String> {
        let files = std::fs::read_dir(&self.folder).unwrap();
        files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// The stems of files that end so, without those left out.
    fn stems(&self, suffix: &str) -> Vec<String> {
        let names = self.names();
        names.iter().filter_map(|name| Some(name.strip_suffix(suffix)?.to_owned())).collect()
    }

    fn reply(&self, name: &str) -> Reply {
        let body = self.bytes(name);
        if name.ends_with(".sse") {
            Reply::sse(body)
        } else {
            Reply::new(200, "application/json", body)
        }
    }

    fn client(&self, agent: &Agent) -> Client {
        client_over(self.http.clone(), &agent.url, &self.dialect().1, quick())
    }

    fn assert_all_used(&self) {
        let used = self.used.lock().unwrap();
        let unused: Vec<_> = self.names().difference(&used).cloned().collect();
        assert!(unused.is_empty(), "captures that no test reads: {unused:?}");
    }

    fn dialect(&self) -> (Dialect, Config) {
        let v03 = self.folder.ends_with("kagent-0.10");
        let (dialect, version) =
            if v03 { (Dialect::V0_3, Version::V0_3) } else { (Dialect::V1_0, Version::V1_0) };
        (dialect, Config { version, ..Config::default() })
    }
}

/// An agent that streams or not, and answers `reply`; what is asked about a task gets `tasks`, one after the other.
async fn agent(streams: bool, reply: Reply, tasks: Vec<Reply>) -> Agent {
    let tasks = Mutex::new(tasks);
    Agent::new(move |seen: &Seen| {
        if seen.is_card() {
            return Reply::json(&json!({"name": "a", "capabilities": {"streaming": streams}}));
        }
        match seen.method.as_str() {
            "tasks/get" | "GetTask" => tasks.lock().unwrap().remove(0),
            _ => reply.clone(),
        }
    })
    .await
}

/// The message of a captured request, as the bot would have given it; the content of a decision comes from elsewhere.
fn outgoing(request: &Value, content: Option<Content>) -> Outgoing {
    let message = &request["params"]["message"];
    let text = |key: &str| message[key].as_str().map(ToOwned::to_owned);
    Outgoing {
        message_id: text("messageId").unwrap_or_default(),
        context_id: text("contextId").unwrap_or_default(),
        task_id: text("taskId"),
        content: content.unwrap_or_else(|| {
            Content::Parts(vec![OutPart::Text(super::part::text(super::part::list(message)))])
        }),
        metadata: serde_json::Map::new(),
    }
}

fn line(steps: &[String], outcome: &Outcome) -> String {
    let state = match &outcome.state {
        State::Completed => "completed".to_owned(),
        State::Failed { message } => format!("failed ({message})"),
        State::Canceled => "canceled".to_owned(),
        State::InputRequired(pause) => format!("waits for {}", pause_line(pause)),
        other => format!("{other:?}"),
    };
    let steps: String = steps.iter().map(|step| format!("{step} ")).collect();
    let answer = outcome.answer.text.chars().take(60).collect::<String>();
    format!("{steps}= {state}: {answer}")
}

fn pause_line(pause: &Pause) -> String {
    match pause {
        Pause::Text(text) => format!("a reply to `{text}`"),
        Pause::Approval(approval) => {
            let tools = approval.tools.iter().map(|tool| format!("{}{}", tool.name, tool.args));
            let by = approval.subagent.as_deref().map(|by| format!(" by {by}")).unwrap_or_default();
            assert!(approval.hint.is_some());
            format!("{:?} of {}{by}", approval.shape, tools.collect::<Vec<_>>().join(" and "))
        }
        Pause::Questions(questions) => {
            let asked = questions.questions.iter().map(|question| {
                let kind = if question.multiple { "some" } else { "one" };
                format!("{} {kind} of {:?}", question.text, question.choices)
            });
            let by =
                questions.subagent.as_deref().map(|by| format!(" by {by}")).unwrap_or_default();
            format!("{:?} {}{by}", questions.shape, asked.collect::<Vec<_>>().join("; "))
        }
    }
}

/// What a captured or written decision means: each ID with yes or no and why, or the answers.
#[derive(Debug, PartialEq)]
enum Meaning {
    Tools(BTreeMap<String, (bool, Option<String>)>),
    Answers(Option<String>, Value),
}

fn meaning(request: &Value, ids: &[String]) -> Meaning {
    let message = &request["params"]["message"];
    let reason = |value: &Value| value.as_str().map(ToOwned::to_owned);
    if let Some(payload) = message["metadata"].get(HITL) {
        assert_eq!(message["extensions"], json!([HITL]));
        if payload["type"] == "ask_user_response" {
            return Meaning::Answers(reason(&payload["id"]), payload["answers"].clone());
        }
        assert_eq!(payload["type"], "tool_approval_response");
        let each = payload["approvals"].as_array().unwrap().iter().map(|one| {
            let id = one["id"].as_str().unwrap().to_owned();
            (id, (one["approved"].as_bool().unwrap(), reason(&one["rejection_reason"])))
        });
        return Meaning::Tools(each.collect());
    }
    let parts = message["parts"].as_array().unwrap();
    let data = &parts.iter().find(|part| part.get("data").is_some()).unwrap()["data"];
    if let Some(answers) = data.get("ask_user_answers") {
        assert_eq!(data["decision_type"], "approve");
        return Meaning::Answers(None, answers.clone());
    }
    let each = ids.iter().filter_map(|id| {
        let star = reason(&data["rejection_reasons"]["*"]);
        let verdict = match data["decision_type"].as_str()? {
            "approve" => (true, None),
            "reject" => (false, reason(&data["rejection_reason"]).or(star)),
            _ => {
                let yes = data["decisions"].get(id)? == "approve";
                (yes, reason(&data["rejection_reasons"][id]))
            }
        };
        Some((id.clone(), verdict))
    });
    Meaning::Tools(each.collect())
}

/// The decision of a captured request, made the way the bot makes it. A tool that the capture leaves out is rejected.
fn decide(pause: &Pause, captured: &Value) -> (Content, Meaning) {
    let label = super::part::text(super::part::list(&captured["params"]["message"]));
    match pause {
        Pause::Approval(approval) => {
            let ids: Vec<_> = approval.tools.iter().map(|tool| tool.id.clone()).collect();
            let Meaning::Tools(mut verdicts) = meaning(captured, &ids) else { panic!("no tools") };
            for id in ids {
                verdicts.entry(id).or_insert((false, None));
            }
            let decision = approval.decide(label, |tool| match &verdicts[&tool.id] {
                (true, _) => Verdict::Approve,
                (false, reason) => Verdict::Reject { reason: reason.clone() },
            });
            (Content::Decision(decision), Meaning::Tools(verdicts))
        }
        Pause::Questions(questions) => {
            let Meaning::Answers(id, answers) = meaning(captured, &[]) else {
                panic!("no answers")
            };
            let decision = questions.answer(label, |at, _| {
                let answer = answers[at]["answer"].as_array().unwrap().iter();
                answer.map(|word| word.as_str().unwrap().to_owned()).collect()
            });
            (Content::Decision(decision), Meaning::Answers(id, answers))
        }
        Pause::Text(text) => panic!("nothing to decide: {text}"),
    }
}

fn read(result: &Value) -> Outcome {
    let wire::Reply::Result(result) = wire::envelope(result.clone()).unwrap() else { panic!() };
    let mut reader = Reader::default();
    match reader.read(&result, &mut Vec::new()) {
        super::read::Heard::Stopped(state) => reader.outcome(state),
        other => panic!("{other:?}"),
    }
}

/// `X.request.json` and its answer.
async fn exchange(captures: &Captures, stem: &str) -> Option<String> {
    let request = captures.json(&format!("{stem}.request.json"));
    let method = request["method"].as_str().unwrap();
    let sse = format!("{stem}.response.sse");
    let streams = captures.has(&sse);
    let reply = captures.reply(&if streams { sse } else { format!("{stem}.response.json") });
    let (dialect, _) = captures.dialect();
    let task_id = request["params"]["id"].as_str().unwrap_or_default();
    if method == dialect.method(super::dialect::Call::Get) {
        let agent = agent(true, Reply::error(-1, ""), vec![reply]).await;
        let client = captures.client(&agent);
        let snapshot = client.task(task_id, &caller()).await.unwrap();
        assert_eq!(agent.asked()[0].params, request["params"]);
        return Some(snapshot_line(&snapshot));
    }
    if method == dialect.method(super::dialect::Call::Attach) {
        // How it stood before, how it stands after; what comes between is heard.
        let task = |state: Value| Reply::result(json!({"id": task_id, "status": {"state": state}}));
        let tasks = vec![task("working".into()), task("completed".into())];
        let agent = agent(true, reply, tasks).await;
        let (steps, outcome) = told(captures.client(&agent).resume(task_id, &caller())).await;
        assert_eq!(agent.asked()[1].params, request["params"]);
        assert_eq!(agent.asked()[1].method, method);
        return Some(line(&steps, &outcome));
    }
    let mut message = outgoing(&request, None);
    if stem == "decision-after-plain-reply" {
        // The pause it answers was not captured; its one tool is in the decision.
        let id = request["params"]["message"]["metadata"][HITL]["approvals"][0]["id"].as_str();
        let tool = ToolCall {
            id: id.unwrap().to_owned(),
            name: "delete_file".to_owned(),
            args: Value::Null,
        };
        let pause = Pause::Approval(Approval {
            hint: None,
            subagent: None,
            tools: vec![tool],
            shape: Shape::Hitl,
        });
        message.content = decide(&pause, &request).0;
    }
    let tasks = if stem == "nonblocking-send" {
        let names = ["get-working-task.response.json", "get-completed-task.response.json"];
        names.iter().map(|name| captures.reply(name)).collect()
    } else {
        Vec::new()
    };
    let agent = agent(streams, reply, tasks).await;
    let run = captures.client(&agent).send(&message, &Caller::default()).await.unwrap();
    let (steps, outcome) = told(run).await;
    let asked = agent.asked().remove(0);
    assert_eq!(asked.method, method, "{stem}");
    assert_eq!(asked.params["message"], request["params"]["message"], "{stem}");
    if let Some(configuration) = request["params"].get("configuration") {
        assert_eq!(&asked.params["configuration"], configuration, "{stem}");
    }
    Some(line(&steps, &outcome))
}

fn snapshot_line(snapshot: &Snapshot) -> String {
    match snapshot {
        Snapshot::Working { answer } => format!("working: {}", answer.text),
        Snapshot::Stopped(outcome) => line(&[], outcome),
    }
}

/// `X-pause.json`, what was said to it, and what came of that.
async fn pause(captures: &Captures, stem: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let paused = read(&captures.json(&format!("{stem}-pause.json")));
    let State::InputRequired(asks) = &paused.state else { panic!("{stem}: {paused:?}") };
    lines.push(line(&[], &paused));
    // A person thinks; meanwhile it is stored.
    let asks: Pause = serde_json::from_value(serde_json::to_value(asks).unwrap()).unwrap();

    let reply_name = format!("{stem}-message.json");
    let is_reply = captures.has(&reply_name);
    let name = if is_reply { reply_name } else { format!("{stem}-decision.json") };
    let captured = captures.json(&name);
    let decided = (!is_reply).then(|| decide(&asks, &captured));
    let (content, meant) = decided.map_or((None, None), |(c, m)| (Some(c), Some(m)));
    let message = outgoing(&captured, content);
    let agent = agent(false, captures.reply(&format!("{stem}-result.json")), Vec::new()).await;
    let user = Caller { user_id: Some("slack:T1:U1".to_owned()), traceparent: None };
    let run = captures.client(&agent).send(&message, &user).await.unwrap();
    let (steps, outcome) = told(run).await;
    lines.push(line(&steps, &outcome));

    let asked = agent.asked().remove(0);
    let written = json!({"params": asked.params});
    let (ours, theirs) = (&written["params"]["message"], &captured["params"]["message"]);
    for key in ["kind", "role", "messageId", "contextId", "taskId"] {
        assert_eq!(ours.get(key), theirs.get(key), "{stem}: {key}");
    }
    let label = |message| super::part::text(super::part::list(message));
    assert_eq!(label(ours), label(theirs), "{stem}");
    assert!(!label(ours).is_empty(), "{stem}: a decision needs a text part");
    match meant {
        None => assert_eq!(ours, theirs, "{stem}"),
        Some(meant) => {
            let ids: Vec<String> = match &asks {
                Pause::Approval(approval) => approval.tools.iter().map(|t| t.id.clone()).collect(),
                _ => Vec::new(),
            };
            let ours = meaning(&written, &ids);
            assert_eq!(ours, meant, "{stem}");
            if let Meaning::Tools(verdicts) = ours {
                assert_eq!(
                    verdicts.into_keys().collect::<BTreeSet<_>>(),
                    ids.into_iter().collect()
                );
            }
        }
    }
    let again = format!("{stem}-again-result.json");
    if captures.has(&again) {
        let agent = self::agent(false, captures.reply(&again), Vec::new()).await;
        let refused = captures.client(&agent).send(&message, &user).await.unwrap_err();
        assert!(matches!(refused, Error::AlreadyDecided { .. }), "{refused:?}");
        lines.push(refused.to_string());
    }
    lines
}

/// `errors.json`: each case by the call that was made.
async fn errors(captures: &Captures) -> Vec<(String, String)> {
    let mut lines = Vec::new();
    for case in captures.json("errors.json").as_array().unwrap() {
        let name = case["case"].as_str().unwrap().to_owned();
        let response = &case["response"];
        let body = match &response["body"] {
            Value::String(text) => text.clone(),
            json => json.to_string(),
        };
        let status = u16::try_from(response["status"].as_u64().unwrap()).unwrap();
        let kind = response["content_type"].as_str().unwrap();
        let reply = Reply::new(status, kind, body);
        let request = &case["request"]["body"];
        let method = request["method"].as_str().unwrap();
        let streams = matches!(method, "message/stream" | "SendStreamingMessage");
        let agent = agent(streams, reply.clone(), vec![reply.clone(), reply]).await;
        let client: Client = captures.client(&agent);
        let id = request["params"]["id"].as_str().unwrap_or_default();
        let error = |error: Error| format!("{error:?}");
        let line = match method {
            "tasks/get" | "GetTask" => {
                client.task(id, &caller()).await.map_or_else(error, |s| snapshot_line(&s))
            }
            "tasks/cancel" | "CancelTask" => {
                let cancelled = client.cancel(id, &caller()).await;
                cancelled.map_or_else(error, |cancelled| format!("{cancelled:?}"))
            }
            "tasks/resubscribe" | "SubscribeToTask" => {
                let (dialect, _) = captures.dialect();
                match client.attach(dialect, id, &caller()).await.unwrap() {
                    wire::Reply::Refusal(refusal) => refusal.code.to_string(),
                    wire::Reply::Stream(mut stream) => format!("{:?}", stream.next().await),
                    wire::Reply::Result(result) => panic!("{result}"),
                }
            }
            _ => match client.send(&outgoing(request, None), &caller()).await {
                Ok(run) => {
                    let (steps, outcome) = told(run).await;
                    self::line(&steps, &outcome)
                }
                Err(error) => format!("{error:?}"),
            },
        };
        lines.push((name, line));
    }
    lines
}

/// Replays a whole folder, and answers what came out of each capture.
async fn replay(captures: &Captures) -> BTreeMap<String, String> {
    let mut lines = BTreeMap::new();
    for stem in captures.stems(".request.json") {
        if let Some(line) = exchange(captures, &stem).await {
            lines.insert(stem, line);
        }
    }
    for stem in captures.stems("-pause.json") {
        if captures.has(&format!("{stem}.request.json")) {
            continue;
        }
        for (at, line) in pause(captures, &stem).await.into_iter().enumerate() {
            lines.insert(format!("{stem} {}", at + 1), line);
        }
    }
    for (case, line) in errors(captures).await {
        lines.insert(format!("errors: {case}"), line);
    }
    let card = super::card::AgentCard::read(&captures.json("agent-card.json")).unwrap();
    let shown = format!("{:?} -> {}, {}", card.versions, card.dialect, card.approvals);
    lines.insert("agent-card".to_owned(), shown);
    captures.assert_all_used();
    lines
}

#[tokio::test]
async fn kagent_0_10_is_understood() {
    insta::assert_json_snapshot!("kagent_0_10", replay(&Captures::of("kagent-0.10")).await);
}

#[tokio::test]
async fn kagent_1_0_is_understood() {
    insta::assert_json_snapshot!("kagent_1_0", replay(&Captures::of("kagent-1.0")).await);
}

#[test]
#[should_panic(expected = "captures that no test reads: [\"new.json\"]")]
fn a_capture_that_nobody_reads_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["read.json", "new.json"] {
        std::fs::write(folder.path().join(name), "{}").unwrap();
    }
    let captures = Captures {
        folder: folder.path().to_owned(),
        used: Arc::default(),
        http: scripted::client(),
    };
    captures.json("read.json");
    captures.assert_all_used();
}
