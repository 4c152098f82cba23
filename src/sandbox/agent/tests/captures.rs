//! The captures of the real agents, replayed: what comes back has to look like what came back then.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Dialect, HITL, New, Old, Served, events, paused, serve};

const FOLDERS: [(Dialect, &str); 2] = [(Old, "kagent-0.10"), (New, "kagent-1.0")];

/// What a value looks like: its scalars by type, except those that name kinds and states.
fn shape(value: &Value) -> Value {
    const TOLD: [&str; 10] = [
        "kind",
        "state",
        "role",
        "final",
        "lastChunk",
        "append",
        "type",
        "status",
        "waiting_for",
        "confirmed",
    ];
    const FREE: [&str; 4] = ["args", "response", "questions", "answer"];
    match value {
        Value::Object(object) => object
            .iter()
            .map(|(name, value)| {
                let told = TOLD.contains(&name.as_str())
                    || name.contains("type")
                    || name.contains("partial");
                let shaped = match value {
                    // What models and tools say is theirs; how a confirmation wraps it is not.
                    Value::Object(_)
                        if name == "args" && value.get("originalFunctionCall").is_some() =>
                    {
                        shape(value)
                    }
                    Value::Object(object)
                        if name == "response" && object.contains_key("status") =>
                    {
                        shape(value)
                    }
                    _ if FREE.contains(&name.as_str()) => json!("…"),
                    Value::String(_) | Value::Bool(_) if told => value.clone(),
                    _ => shape(value),
                };
                // Decisions have ids for keys.
                let name = if name.starts_with("call_") { "call" } else { name };
                (name.to_owned(), shaped)
            })
            .collect(),
        Value::Array(list) => list.iter().map(shape).collect(),
        Value::String(_) => json!("text"),
        Value::Number(_) => json!(0),
        Value::Bool(_) => json!(true),
        Value::Null => Value::Null,
    }
}

fn capture(folder: &str, name: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(root.join("tests/fixtures/a2a").join(folder).join(name)).unwrap()
}

fn read(folder: &str, name: &str) -> Value {
    serde_json::from_str(&capture(folder, name)).unwrap()
}

/// Two values that look alike, or a test that fails and says where.
#[track_caller]
fn alike(ours: &Value, theirs: &Value, what: &str) {
    let (ours, theirs) = (shape(ours), shape(theirs));
    // Ours streams its words by tokens throughout; whoever asks for the whole sees no difference but this mark.
    let whole = |value: &Value| {
        let text = serde_json::to_string_pretty(value).unwrap();
        text.replace("\"kagent_adk_partial\": false", "\"kagent_adk_partial\": null")
    };
    assert!(whole(&ours) == whole(&theirs), "{what}: ours\n{ours:#}\ntheirs\n{theirs:#}");
}

/// A captured request that says something else.
fn saying(mut request: Value, text: &str) -> Value {
    for part in request["params"]["message"]["parts"].as_array_mut().unwrap() {
        if part.get("text").is_some() {
            part["text"] = json!(text);
        }
    }
    request
}

impl Served {
    fn body(&self, dialect: Dialect, body: &Value) -> reqwest::RequestBuilder {
        let agent = if dialect == Old { "agent-0.3" } else { "agent-1.0" };
        let request = self.client.post(format!("{}/{agent}/", self.base)).json(body);
        match dialect {
            Old => request,
            New => request.header("A2A-Version", "1.0").header("A2A-Extensions", HITL),
        }
    }

    async fn replay(&self, dialect: Dialect, body: &Value) -> Value {
        self.body(dialect, body).send().await.unwrap().json().await.unwrap()
    }

    async fn replay_stream(&self, dialect: Dialect, body: &Value) -> Vec<Value> {
        events(&self.body(dialect, body).send().await.unwrap().text().await.unwrap())
    }
}

/// The ids that models and ADK gave, in the order of the document.
fn ids(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) if text.starts_with("call_") || text.starts_with("adk-") => {
            found.push(text.clone());
        }
        Value::Array(list) => list.iter().for_each(|value| ids(value, found)),
        Value::Object(object) => object.values().for_each(|value| ids(value, found)),
        _ => {}
    }
}

fn task_of(dialect: Dialect, answer: &Value) -> &Value {
    if dialect == Old { &answer["result"] } else { &answer["result"]["task"] }
}

#[tokio::test]
async fn plain_answers_and_failures_look_alike() {
    let served = serve().await;
    for (dialect, folder) in FOLDERS {
        for (name, text) in [("plain-answer", "hello"), ("failed-task", "fail")] {
            let request = saying(read(folder, &format!("{name}.request.json")), text);
            let theirs = read(folder, &format!("{name}.response.json"));
            alike(&served.replay(dialect, &request).await, &theirs, &format!("{folder} {name}"));
        }
    }
}

#[tokio::test]
async fn streams_look_alike() {
    let served = serve().await;
    for (dialect, folder) in FOLDERS {
        for (name, text) in [("stream-approval-pause", "approve"), ("stream-failed-task", "fail")] {
            let request = saying(read(folder, &format!("{name}.request.json")), text);
            let theirs = events(&capture(folder, &format!("{name}.response.sse")));
            let ours = served.replay_stream(dialect, &request).await;
            alike(&json!(ours), &json!(theirs), &format!("{folder} {name}"));
        }
        // These have other tools, so every event has to look like one of theirs.
        let known: Vec<Value> =
            ["stream-tool-progress", "stream-token-partials", "stream-keepalive", "reattach"]
                .iter()
                .flat_map(|name| events(&capture(folder, &format!("{name}.response.sse"))))
                .map(|event| shape(&event))
                .collect();
        for text in ["slow 0.1", "markdown"] {
            let request = saying(read(folder, "stream-tool-progress.request.json"), text);
            for event in served.replay_stream(dialect, &request).await {
                let ours = shape(&event);
                assert!(known.contains(&ours), "{folder} {text}: {ours:#}");
            }
        }
    }
}

#[tokio::test]
async fn polled_tasks_look_alike() {
    let served = serve().await;
    for (dialect, folder) in FOLDERS {
        let request = saying(read(folder, "nonblocking-send.request.json"), "slow 1");
        let sent = served.replay(dialect, &request).await;
        alike(&sent, &read(folder, "nonblocking-send.response.json"), folder);
        let mut poll = read(folder, "get-working-task.request.json");
        poll["params"]["id"] = task_of(dialect, &sent)["id"].clone();
        let working = read(folder, "get-working-task.response.json");
        let done = read(folder, "get-completed-task.response.json");
        let mut looked_like = Vec::new();
        for _ in 0..200 {
            let now = served.replay(dialect, &poll).await;
            let state = now["result"]["status"]["state"].clone();
            if state == done["result"]["status"]["state"] {
                looked_like.push(now);
                break;
            }
            // In the first tool, where the capture is.
            if state == working["result"]["status"]["state"] && looked_like.is_empty() {
                let last = now.to_string();
                if last.contains("function_call") && !last.contains("function_response") {
                    looked_like.push(now);
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let [first, last] = looked_like.try_into().unwrap();
        if dialect == Old {
            // Ours says something before it calls.
            let mut first = first;
            let parts = first["result"]["status"]["message"]["parts"].as_array_mut().unwrap();
            parts.retain(|part| part["kind"] == "data");
            for metadata in ["/result/metadata", "/result/status/message/metadata"] {
                first.pointer_mut(metadata).unwrap()["kagent_adk_partial"] = Value::Null;
            }
            alike(&first, &working, folder);
            alike(&last, &done, folder);
        } else {
            assert_eq!(shape(&first["result"]["status"]), shape(&working["result"]["status"]));
            alike(&last["result"]["metadata"], &done["result"]["metadata"], folder);
            alike(&last["result"]["history"], &done["result"]["history"], folder);
        }
    }
}

/// Pauses as in the capture, decides as in the capture, and compares both answers.
async fn decide(
    served: &Served,
    dialect: Dialect,
    folder: &str,
    name: &str,
    text: &str,
    whole: bool,
) {
    let what = format!("{folder} {name}");
    let context = format!("context of {name}");
    let mut message = dialect.message(text);
    message["contextId"] = json!(context);
    let ask = json!({
        "jsonrpc": "2.0", "id": "1", "method": dialect.method("send"),
        "params": { "message": message },
    });
    let ours = served.replay(dialect, &ask).await;
    let theirs = read(folder, &format!("{name}-pause.json"));
    let (task, captured) = (task_of(dialect, &ours), task_of(dialect, &theirs));
    assert_eq!(task["status"]["state"], paused(dialect), "{what}");
    // What they say before they call is theirs.
    alike(&task["status"], &captured["status"], &what);
    if whole {
        alike(&ours, &theirs, &what);
    }
    let (mut known, mut meant) = (Vec::new(), Vec::new());
    ids(&captured["status"], &mut known);
    ids(&task["status"], &mut meant);
    assert_eq!(known.len(), meant.len(), "{what}");
    let decision = ["decision", "message"]
        .iter()
        .find_map(|kind| {
            let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/a2a");
            std::fs::read_to_string(root.join(folder).join(format!("{name}-{kind}.json"))).ok()
        })
        .unwrap();
    let swapped: BTreeMap<String, String> = known.into_iter().zip(meant).collect();
    let decision = swapped.iter().fold(decision, |text, (from, to)| text.replace(from, to));
    let mut decision: Value = serde_json::from_str(&decision).unwrap();
    decision["params"]["message"]["taskId"] = task["id"].clone();
    decision["params"]["message"]["contextId"] = json!(context);
    let ours = served.replay(dialect, &decision).await;
    let theirs = read(folder, &format!("{name}-result.json"));
    let (task, captured) = (task_of(dialect, &ours), task_of(dialect, &theirs));
    alike(&task["status"], &captured["status"], &what);
    if whole {
        alike(&ours, &theirs, &what);
    }
    let again = served.replay(dialect, &decision).await;
    let refused = read(folder, "decided-twice-again-result.json");
    let terminal = !["input-required", "TASK_STATE_INPUT_REQUIRED"]
        .contains(&task["status"]["state"].as_str().unwrap());
    if terminal {
        alike(&again, &refused, &what);
        assert_eq!(again["error"]["code"], refused["error"]["code"], "{what}");
    }
}

#[tokio::test]
async fn decisions_look_alike() {
    let served = serve().await;
    for (dialect, folder) in FOLDERS {
        for (name, text, whole) in [
            ("approval", "approve", true),
            ("reject", "approve", true),
            ("decided-twice", "approve", true),
            ("plain-text-reply", "approve", true),
            // The real ones say nothing before they call these two.
            ("batch", "approve two", false),
            ("batch-omitted-id", "approve two", false),
            ("ask-user", "question", true),
            // Theirs names the sub-agent's session beside the call as well.
            ("nested-approve", "nested", false),
        ] {
            decide(&served, dialect, folder, name, text, whole).await;
        }
    }
    decide(&served, Old, "kagent-0.10", "nested-reject", "nested", false).await;
    decide(&served, Old, "kagent-0.10", "reject-star-reason", "approve", true).await;
    // The JSON went to the model, as text.
    let log = served.world.agent_requests();
    assert!(log.iter().any(|request| request.decisions.values().any(|approved| !approved)));
}

#[tokio::test]
async fn errors_are_the_same() {
    let served = serve().await;
    for (dialect, folder) in FOLDERS {
        let finished =
            served.replay(dialect, &saying(read(folder, "plain-answer.request.json"), "hi")).await;
        let finished = task_of(dialect, &finished);
        let running = saying(read(folder, "nonblocking-send.request.json"), "slow 600");
        let running = served.replay(dialect, &running).await;
        let running = task_of(dialect, &running);
        let cases = read(folder, "errors.json");
        for case in cases.as_array().unwrap() {
            let name = case["case"].as_str().unwrap();
            let mut body = case["request"]["body"].clone();
            let task = if name.contains("cancel") && !name.contains("unknown") {
                running
            } else {
                finished
            };
            let known = |id: &Value| !id.is_null() && id != "nope";
            if known(&body["params"]["message"]["taskId"]) {
                body["params"]["message"]["taskId"] = task["id"].clone();
                body["params"]["message"]["contextId"] = task["contextId"].clone();
            }
            if known(&body["params"]["id"]) {
                body["params"]["id"] = task["id"].clone();
            }
            let agent = if dialect == Old { "agent-0.3" } else { "agent-1.0" };
            let mut request = served.client.post(format!("{}/{agent}/", served.base)).json(&body);
            for (header, value) in case["request"]["headers"].as_object().unwrap() {
                if header != "content-type" {
                    request = request.header(header, value.as_str().unwrap());
                }
            }
            let answer = request.send().await.unwrap();
            let expected = &case["response"];
            assert_eq!(
                answer.status().as_u16(),
                expected["status"].as_u64().unwrap() as u16,
                "{folder} {name}"
            );
            assert_eq!(
                answer.headers()["content-type"],
                expected["content_type"].as_str().unwrap(),
                "{folder} {name}"
            );
            let text = answer.text().await.unwrap();
            let json_of = |text: &str| -> Value {
                serde_json::from_str(text.trim().trim_start_matches("data: ")).unwrap()
            };
            let ours = json_of(&text);
            let theirs =
                expected["body"].as_str().map_or_else(|| expected["body"].clone(), json_of);
            assert_eq!(ours["error"]["code"], theirs["error"]["code"], "{folder} {name}");
            let worded = |error: &Value| {
                let text = error["error"]["message"].as_str().unwrap_or_default();
                text.split(' ').filter(|word| word.len() < 36).collect::<Vec<_>>().join(" ")
            };
            assert_eq!(worded(&ours), worded(&theirs), "{folder} {name}");
            assert_eq!(
                ours["error"]["data"].is_null(),
                theirs["error"]["data"].is_null() || name.contains("messageId") && dialect == Old,
                "{folder} {name}"
            );
        }
    }
}
