//! What the agent does: from what somebody wrote to a list of acts.

use std::time::Duration;

use base64::Engine as _;
use serde_json::{Value, json};

use super::task::Ids;

/// What the page shows as hints, and what each one does. The keyword has to begin the text, a line of it, or what stands
/// behind a name and a colon (`alice: slow 5`). Several lines: the last keyword counts.
pub(in crate::sandbox) const HINTS: [(&str, &str); 15] = [
    ("hello", "anything else is echoed, with the number of messages so far"),
    ("remember the pager", "keeps it for this conversation"),
    ("what did I say?", "shows what this conversation remembers"),
    ("slow 5", "five seconds of tools at work"),
    ("markdown", "a rich answer"),
    ("long", "an answer of 12,000 characters"),
    ("approve", "a tool that needs approval"),
    ("approve two", "two tools in one pause"),
    ("nested", "a sub-agent's tool that needs approval"),
    ("question", "three questions: one choice, several choices, free text"),
    ("fail", "the model fails"),
    ("file", "answers with a file"),
    ("drop", "the connection breaks in the middle, the task goes on"),
    ("silent 20", "twenty seconds without a byte; 180 without a number"),
    ("lost", "the connection breaks before there is a task id, the task runs"),
];

/// One thing that the agent does.
#[derive(Clone, Debug)]
pub(super) enum Act {
    /// The pieces in which the next step's text comes in.
    Tokens(Vec<String>),
    /// One step of the agent: prose, tool calls, their results, or the answer.
    Step(Vec<Part>),
    Wait(Duration),
    /// Asks, and ends the run.
    Pause(Pause),
    /// The model fails, and the run ends.
    Fail(String),
    /// The runtime itself fails the task.
    Refuse(String),
    /// Every open connection to the task breaks. The run goes on.
    Break,
}

#[derive(Clone, Debug)]
pub(super) enum Part {
    Text(String),
    Call { id: String, name: String, args: Value },
    Response { id: String, name: String, response: Value },
    File { name: &'static str, mime: &'static str, base64: String },
}

/// A tool's call that somebody has to decide about.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Call {
    /// The model's id of it, by which 0.3 decides.
    pub id: String,
    /// The confirmation's, by which 1.0 decides.
    pub confirmation: String,
    pub name: String,
    pub args: Value,
}

/// What the agent waits for.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Pause {
    Tools(Vec<Call>),
    /// One call of `ask_user`, with its questions in the arguments.
    Questions(Call),
    /// A sub-agent's call, and within it the tools that wait.
    Nested {
        outer: Call,
        tools: Vec<Call>,
        task: String,
        context: String,
    },
}

impl Pause {
    /// What has to be decided, one by one.
    pub(super) fn calls(&self) -> &[Call] {
        match self {
            Self::Tools(calls) | Self::Nested { tools: calls, .. } => calls,
            Self::Questions(call) => std::slice::from_ref(call),
        }
    }

    /// What the agent itself called.
    pub(super) fn called(&self) -> &[Call] {
        match self {
            Self::Tools(calls) => calls,
            Self::Nested { outer: call, .. } | Self::Questions(call) => std::slice::from_ref(call),
        }
    }

    pub(super) fn questions(&self) -> Vec<Value> {
        match self {
            Self::Questions(call) => {
                call.args.get("questions").and_then(Value::as_array).cloned().unwrap_or_default()
            }
            _ => Vec::new(),
        }
    }
}

/// What one conversation of one user remembers.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    pub said: Vec<String>,
    pub remembered: Vec<String>,
}

/// What happens after one message.
#[derive(Debug, Default)]
pub(super) struct Script {
    pub acts: Vec<Act>,
    /// No comments keep the connection alive.
    pub silent: bool,
    /// The connection breaks before anything is answered.
    pub lost: bool,
    /// The Go runtime can stop it.
    pub slow: bool,
}

/// A keyword with what stands behind it.
fn wish(text: &str) -> Option<(&'static str, String)> {
    const WORDS: [&str; 12] = [
        "remember", "slow", "markdown", "long", "approve", "nested", "question", "fail", "file",
        "drop", "silent", "lost",
    ];
    let clauses = text.lines().flat_map(|line| {
        let behind = line.split_once(": ").map(|(_, rest)| rest);
        [Some(line), behind].into_iter().flatten()
    });
    clauses.rev().find_map(|clause| {
        let clause = clause.trim_start_matches(|c: char| !c.is_alphanumeric());
        let (word, rest) = clause.split_once(char::is_whitespace).unwrap_or((clause, ""));
        let word = word.trim_end_matches(|c: char| !c.is_alphanumeric()).to_lowercase();
        let word = WORDS.into_iter().find(|known| *known == word)?;
        Some((word, rest.trim().to_owned()))
    })
}

/// The number at the beginning of `rest`, at most an hour of seconds.
fn seconds(rest: &str, otherwise: f64) -> f64 {
    let first = rest.split_whitespace().next().unwrap_or_default();
    first.parse::<f64>().ok().filter(|s| (0.0..=3600.0).contains(s)).unwrap_or(otherwise)
}

/// The acts that answer `text`.
pub(super) fn script(text: &str, files: &[String], memory: &mut Memory, ids: &mut Ids) -> Script {
    let before = memory.said.clone();
    memory.said.push(text.trim().to_owned());
    if text.to_lowercase().contains("what did i say") {
        return says(recall(&before, &memory.remembered));
    }
    let Some((word, rest)) = wish(text) else {
        return says(echo(text, files, memory.said.len()));
    };
    match word {
        "remember" => {
            memory.remembered.push(rest.clone());
            says(format!("I will remember: {rest}"))
        }
        "slow" => slow(seconds(&rest, 5.0), ids),
        "markdown" => says(MARKDOWN.to_owned()),
        "long" => says(long()),
        "approve" => approve(rest.split_whitespace().next() == Some("two"), ids),
        "nested" => nested(ids),
        "question" => question(ids),
        "fail" => Script {
            acts: vec![Act::Fail("Error code: 500 - the scripted model refused".to_owned())],
            ..Script::default()
        },
        "file" => file(),
        "drop" => {
            let mut script = slow(seconds(&rest, 3.0), ids);
            // After the first tool was called.
            script.acts.insert(2, Act::Break);
            script
        }
        "silent" => Script {
            acts: vec![
                Act::Wait(Duration::from_secs_f64(seconds(&rest, 180.0))),
                Act::Step(vec![Part::Text("That took a while.".to_owned())]),
            ],
            silent: true,
            ..Script::default()
        },
        "lost" => Script {
            lost: true,
            ..says("You never heard where this answer can be found.".to_owned())
        },
        _ => says(echo(text, files, memory.said.len())),
    }
}

/// An answer, in tokens first.
pub(super) fn says(text: String) -> Script {
    let acts = vec![Act::Tokens(tokens(&text)), Act::Step(vec![Part::Text(text)])];
    Script { acts, ..Script::default() }
}

/// A text in at most eight pieces, cut behind spaces.
fn tokens(text: &str) -> Vec<String> {
    let words: Vec<&str> = text.split_inclusive(' ').collect();
    words.chunks(words.len().div_ceil(8).max(1)).map(<[&str]>::concat).collect()
}

fn echo(text: &str, files: &[String], count: usize) -> String {
    let mut said = format!("You said: {}", text.trim());
    if !files.is_empty() {
        said.push_str(&format!("\n\nYou sent: {}", files.join(", ")));
    }
    let messages = if count == 1 { "message" } else { "messages" };
    said.push_str(&format!("\n\nThis conversation has seen {count} {messages}."));
    said
}

fn recall(before: &[String], remembered: &[String]) -> String {
    if before.is_empty() {
        return "You have said nothing so far.".to_owned();
    }
    let mut text = "You said:\n".to_owned();
    for said in before {
        text.push_str(&format!("\n- {}", said.replace('\n', " ")));
    }
    if !remembered.is_empty() {
        text.push_str(&format!("\n\nI remember: {}", remembered.join("; ")));
    }
    text
}

/// What a tool's server answers.
pub(super) fn result(text: &str) -> Value {
    json!({
        "content": [{ "type": "text", "text": text }],
        "structuredContent": { "result": text },
        "isError": false,
    })
}

fn slow(seconds: f64, ids: &mut Ids) -> Script {
    let half = Duration::from_secs_f64(seconds / 2.0);
    let (pods, logs) = (ids.call(), ids.call());
    let namespace = json!({ "namespace": "production" });
    let pod = json!({ "namespace": "production", "name": "api-1", "tail_lines": 50 });
    let call =
        |id: &str, name: &str, args| Part::Call { id: id.to_owned(), name: name.to_owned(), args };
    let response = |id: &str, name: &str, text| Part::Response {
        id: id.to_owned(),
        name: name.to_owned(),
        response: result(text),
    };
    let acts = vec![
        Act::Tokens(tokens("Let me look.")),
        Act::Step(vec![
            Part::Text("Let me look.".to_owned()),
            call(&pods, "k8s_get_pods", namespace),
        ]),
        Act::Wait(half),
        Act::Step(vec![response(&pods, "k8s_get_pods", "api-0 Running, api-1 CrashLoopBackOff")]),
        Act::Step(vec![call(&logs, "k8s_get_logs", pod)]),
        Act::Wait(half),
        Act::Step(vec![response(&logs, "k8s_get_logs", "panic: no configuration")]),
        Act::Step(vec![Part::Text(
            "Pod **api-1** crashes: `panic: no configuration`. Pod api-0 runs.".to_owned(),
        )]),
    ];
    Script { acts, slow: true, ..Script::default() }
}

fn call(ids: &mut Ids, name: &str, args: Value) -> Call {
    Call { id: ids.call(), confirmation: ids.confirmation(), name: name.to_owned(), args }
}

fn step_of(text: Option<&str>, calls: &[Call]) -> Act {
    let text = text.map(|text| Part::Text(text.to_owned()));
    let calls = calls.iter().map(|call| Part::Call {
        id: call.id.clone(),
        name: call.name.clone(),
        args: call.args.clone(),
    });
    Act::Step(text.into_iter().chain(calls).collect())
}

fn asks(text: Option<&str>, pause: Pause) -> Script {
    let acts = vec![step_of(text, pause.called()), Act::Pause(pause)];
    Script { acts, ..Script::default() }
}

fn approve(two: bool, ids: &mut Ids) -> Script {
    let pod = json!({ "namespace": "production", "name": "api-1" });
    let mut calls = vec![call(ids, "k8s_delete_pod", pod)];
    if two {
        let scale = json!({ "namespace": "production", "name": "api", "replicas": 3 });
        calls.push(call(ids, "k8s_scale", scale));
    }
    asks(Some("The pod api-1 has to go."), Pause::Tools(calls))
}

fn nested(ids: &mut Ids) -> Script {
    let outer = call(ids, "kagent__NS__helm_agent", json!({ "request": "upgrade the api" }));
    let args = json!({ "release": "api", "namespace": "production", "version": "1.4.2" });
    let tools = vec![call(ids, "helm_upgrade", args)];
    let (task, context) = (ids.uuid(), ids.uuid());
    asks(None, Pause::Nested { outer, tools, task, context })
}

fn question(ids: &mut Ids) -> Script {
    let questions = json!({ "questions": [
        { "question": "Which database should be used?", "choices": ["PostgreSQL", "MySQL"], "multiple": false },
        { "question": "Which features?", "choices": ["Auth", "Caching", "Metrics"], "multiple": true },
        { "question": "Anything else?", "choices": [], "multiple": false },
    ]});
    asks(None, Pause::Questions(call(ids, "ask_user", questions)))
}

fn file() -> Script {
    let text = "pod,restarts\napi-0,0\napi-1,17\n";
    let base64 = base64::engine::general_purpose::STANDARD.encode(text);
    let step = vec![
        Part::Text("Here is the list.".to_owned()),
        Part::File { name: "pods.csv", mime: "text/csv", base64 },
    ];
    Script { acts: vec![Act::Step(step)], ..Script::default() }
}

fn long() -> String {
    let mut text = "# A long answer\n".to_owned();
    let mut line = 0;
    while text.chars().count() < 11_900 {
        line += 1;
        text.push_str(&format!(
            "\n{line}. Node worker-{line} is ready; it runs {} pods and has room for more.",
            line * 7 % 30
        ));
    }
    text.extend(std::iter::repeat_n('.', 12_000_usize.saturating_sub(text.chars().count())));
    text
}

const MARKDOWN: &str = r#"# Incident: api is down

**api-1** restarts since *09:12*; see the [runbook](https://example.org/runbook?a=1&b=2).

| pod | state | restarts |
|---|---|---:|
| api-0 | Running | 0 |
| api-1 | CrashLoopBackOff | 17 |

1. Look at the configuration
2. Roll back:

```sh
kubectl -n production rollout undo deployment/api
```

- [x] people told
- [ ] cause found

> `panic: no configuration`, not <b>this</b> & that, @everyone.
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keywords_begin_a_line_or_what_a_name_says() {
        let word = |text| wish(text).map(|(word, _)| word);
        assert_eq!(word("slow 5"), Some("slow"));
        assert_eq!(word("alice: Approve two"), Some("approve"));
        assert_eq!(word("*alice*: hello\n*bob*: long."), Some("long"));
        assert_eq!(word("please be slow"), None);
        assert_eq!(wish("remember the  pager").unwrap().1, "the  pager");
    }

    #[test]
    fn every_hint_does_what_it_says() {
        for (say, _) in HINTS {
            let (mut memory, mut ids) = (Memory::default(), Ids::default());
            let script = script(say, &[], &mut memory, &mut ids);
            assert!(!script.acts.is_empty(), "{say}");
            let first = say.split(' ').next().unwrap();
            assert_eq!(
                wish(say).map(|(word, _)| word == first),
                (!["hello", "what"].contains(&first)).then_some(true),
                "{say}"
            );
        }
    }

    #[test]
    fn the_long_answer_has_the_length_it_promises() {
        assert_eq!(long().chars().count(), 12_000);
    }

    #[test]
    fn tokens_make_the_text() {
        assert_eq!(tokens(MARKDOWN).concat(), MARKDOWN);
        assert!(tokens(MARKDOWN).len() <= 8);
    }

    #[test]
    fn seconds_have_bounds() {
        let all = ["3", "0.5 x", "-1", "9999", "soon", ""].map(|rest| seconds(rest, 5.0));
        assert_eq!(all, [3.0, 0.5, 5.0, 5.0, 5.0, 5.0]);
    }
}
