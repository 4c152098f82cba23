use serde_json::json;

use super::*;
use crate::a2a::turn::{File, Link};

fn heard(reader: &mut Reader, result: Value) -> Heard {
    reader.read(&result, &mut Vec::new())
}

fn said(text: &str, partial: Value) -> Value {
    json!({"kind": "status-update", "taskId": "t", "contextId": "c", "status": {
        "state": "working",
        "message": {"kind": "message", "role": "agent", "metadata": {"adk_partial": partial},
            "parts": [{"kind": "text", "text": text}]}}})
}

fn made(id: &str, text: &str, append: bool) -> Value {
    json!({"artifactUpdate": {"taskId": "t", "append": append,
        "artifact": {"artifactId": id, "parts": [{"text": text}]}}})
}

fn completed() -> Value {
    json!({"statusUpdate": {"taskId": "t", "status": {"state": "TASK_STATE_COMPLETED"}}})
}

#[test]
fn deltas_then_the_whole_are_one_text() {
    let mut reader = Reader::default();
    let mut shown = Vec::new();
    for event in [
        said("Let ", json!(true)),
        said("me.", json!(true)),
        said("Let me.", json!(false)),
        said("Done", json!(true)),
        said("Done.", json!(null)),
    ] {
        heard(&mut reader, event);
        if reader.news() {
            shown.push(reader.showing().to_owned());
        }
    }
    assert_eq!(shown, ["Let ", "Let me.", "Done", "Done."]);
    heard(&mut reader, made("a", "Done.", false));
    assert!(!reader.news(), "the artifact repeats what was said");
    assert_eq!(heard(&mut reader, completed()), Heard::Stopped(State::Completed));
    assert_eq!(reader.answer().text, "Done.");
}

#[test]
fn after_a_gap_only_whole_texts_count() {
    let mut reader = Reader::default();
    heard(&mut reader, said("The begin", json!(true)));
    reader.miss();
    reader.news();
    heard(&mut reader, said(" end.", json!(true)));
    assert!(!reader.news(), "{}", reader.showing());
    heard(&mut reader, said("The beginning and the end.", json!(false)));
    assert_eq!(reader.showing(), "The beginning and the end.");
}

#[test]
fn each_artifact_is_a_step_and_the_last_with_text_is_the_answer() {
    let mut reader = Reader::default();
    for event in [
        made("a", "I will", false),
        made("a", " look.", true),
        made("b", "It ", false),
        made("b", "is fine", true),
        made("b", "It is fine.", false),
        made("c", "", false),
        completed(),
    ] {
        heard(&mut reader, event);
    }
    assert_eq!(reader.answer().text, "It is fine.");
}

#[test]
fn the_answer_may_be_in_the_last_status_or_in_the_history() {
    let parts = json!([{"text": "42"}]);
    let status = json!({"task": {"id": "t", "status": {"state": "TASK_STATE_COMPLETED",
        "message": {"role": "ROLE_AGENT", "parts": parts}}}});
    let history = json!({"id": "t", "status": {"state": "TASK_STATE_COMPLETED"}, "history": [
        {"role": "ROLE_AGENT", "parts": parts}, {"role": "ROLE_AGENT"},
        {"role": "ROLE_USER", "parts": [{"text": "what is six times seven?"}]}]});
    for task in [status, history] {
        let mut reader = Reader::default();
        assert_eq!(heard(&mut reader, task.clone()), Heard::Stopped(State::Completed), "{task}");
        assert_eq!(reader.answer().text, "42", "{task}");
    }
}

#[test]
fn a_bare_message_is_an_answer_without_a_task() {
    let bare = json!({"kind": "message", "role": "agent", "contextId": "c",
        "parts": [{"kind": "text", "text": "pong"}]});
    let wrapped =
        json!({"message": {"role": "ROLE_AGENT", "taskId": "t", "parts": [{"text": "pong"}]}});
    for message in [bare, wrapped] {
        let mut reader = Reader::default();
        let Heard::Stopped(state) = heard(&mut reader, message) else { panic!() };
        let outcome = reader.outcome(state);
        assert_eq!((outcome.answer.text.as_str(), outcome.task_id), ("pong", None));
    }
}

#[test]
fn whatever_is_missing_is_empty() {
    for (result, expected) in [
        (json!({}), Heard::Nothing),
        (json!({"kind": "surprise"}), Heard::Nothing),
        (json!({"id": "t", "status": {}}), Heard::Working),
        (json!({"id": "t", "status": {"state": 7.5}}), Heard::Working),
        (json!({"task": {"id": "t", "status": {"state": "TASK_STATE_NEW_IDEA"}}}), Heard::Working),
        (json!({"statusUpdate": {}}), Heard::Working),
        (json!({"artifactUpdate": {"artifact": {"parts": null}}}), Heard::Working),
        (
            json!({"artifactUpdate": {"artifact": {"parts": [1, "a", {}, {"data": 3}]}}}),
            Heard::Working,
        ),
        (completed(), Heard::Stopped(State::Completed)),
        (
            json!({"kind": "status-update", "final": true, "status": {"state": "working"}}),
            Heard::Closing,
        ),
        (
            json!({"id": "t", "status": {"state": "TASK_STATE_INPUT_REQUIRED"}}),
            Heard::Stopped(State::InputRequired(Pause::Text(String::new()))),
        ),
        (
            json!({"id": "t", "status": {"state": "TASK_STATE_AUTH_REQUIRED"}}),
            Heard::Stopped(State::AuthRequired { message: String::new() }),
        ),
        (
            json!({"kind": "task", "id": "t", "status": {"state": "rejected"}}),
            Heard::Stopped(State::Rejected { message: String::new() }),
        ),
    ] {
        assert_eq!(heard(&mut Reader::default(), result.clone()), expected, "{result}");
    }
}

#[test]
fn the_users_own_words_and_the_models_thoughts_are_not_shown() {
    let mut reader = Reader::default();
    let mut own = said("delete everything", json!(null));
    own["status"]["message"]["role"] = json!("user");
    heard(&mut reader, own);
    let mut thought = said("the user is a fool", json!(null));
    thought["status"]["message"]["parts"][0]["metadata"] = json!({"adk_thought": true});
    heard(&mut reader, thought);
    assert_eq!(reader.showing(), "");
    assert!(!reader.news());
}

#[test]
fn an_agent_cannot_make_us_keep_more_than_we_want() {
    let megabyte = "ä".repeat(512 * 1024);
    for events in [
        vec![made("a", &megabyte, false), made("a", &megabyte, true), made("a", "x", true)],
        vec![said(&megabyte, json!(true)), said(&megabyte, json!(true)), said("x", json!(true))],
        vec![said(&megabyte.repeat(3), json!(null))],
    ] {
        let mut reader = Reader::default();
        for event in events {
            heard(&mut reader, event);
        }
        let answer = reader.answer();
        assert!(answer.text.len() <= TEXT_LIMIT && answer.text.len() > TEXT_LIMIT - 4);
        assert!(answer.cut);
    }
    let mut reader = Reader::default();
    let mut updates = Vec::new();
    for at in 0..2 * ARTIFACTS {
        reader.read(&made(&at.to_string(), "x", false), &mut updates);
        let call = json!({"artifactUpdate": {"artifact": {"artifactId": "tools", "parts": [
            {"data": {"name": "t", "id": at.to_string()}, "metadata": {"adk_type": "function_call"}}
        ]}}});
        reader.read(&call, &mut updates);
    }
    assert!(reader.artifacts.len() <= ARTIFACTS);
    assert_eq!(updates.len(), TOOLS);
}

#[test]
fn files_links_and_last_words_of_an_agent_are_bounded() {
    let long = "x".repeat(2 * MESSAGE_LIMIT);
    let parts: Vec<Value> = (0..2 * FILES)
        .flat_map(|n| {
            let url = format!("http://127.0.0.1/{n}/{long}");
            [json!({"raw": "aGk=", "filename": n.to_string()}), json!({"url": url})]
        })
        .collect();
    let artifact = |parts: Vec<Value>| json!({"artifactUpdate": {"artifact": {"artifactId": "a", "parts": parts}}});
    let mut reader = Reader::default();
    heard(&mut reader, artifact(parts));
    let Artifact { files, links, .. } = &reader.artifacts[0];
    assert_eq!((files.len(), links.len()), (FILES, FILES));
    assert!(links.iter().all(|link| link.url.len() <= MESSAGE_LIMIT));
    // A little more than half of what all files together may have.
    let large = "A".repeat(FILES_LIMIT / 6 * 4 + 8);
    let parts = ["a", "b"].map(|name| json!({"raw": large, "filename": name}));
    let mut reader = Reader::default();
    heard(&mut reader, artifact(parts.to_vec()));
    assert_eq!((reader.artifacts[0].files.len(), reader.answer().files.len()), (1, 1));
    let message = json!({"role": "ROLE_AGENT", "parts": [{"text": long}]});
    let status = json!({"state": "TASK_STATE_FAILED", "message": message});
    let failed = heard(&mut reader, json!({"statusUpdate": {"taskId": "t", "status": status}}));
    let Heard::Stopped(State::Failed { message }) = failed else { panic!("{failed:?}") };
    assert_eq!(message.len(), MESSAGE_LIMIT);
}

#[test]
fn tools_are_told_once_and_questions_are_none() {
    let mut reader = Reader::default();
    let mut updates = Vec::new();
    let part = |name: &str, kind: &str, response: Value| {
        json!({"data": {"id": format!("id-{name}"), "name": name, "response": response},
            "metadata": {"kagent.dev/a2a/part-type": kind}})
    };
    let parts = json!([
        part("get_pods", "function_call", json!(null)),
        part("get_pods", "function_call", json!(null)),
        part("get_pods", "function_response", json!({"status": "confirmation_requested"})),
        part("ask_user", "function_call", json!(null)),
        part("adk_request_confirmation", "function_call", json!(null)),
        part("get_pods", "function_response", json!({"result": 1})),
        part("get_pods", "function_call", json!(null)),
    ]);
    let event = json!({"artifactUpdate": {"artifact": {"artifactId": "a", "parts": parts}}});
    reader.read(&event, &mut updates);
    let tool = |state| Update::Tool { id: "id-get_pods".into(), name: "get_pods".into(), state };
    assert_eq!(updates, [tool(ToolState::Running), tool(ToolState::Done)]);
}

#[test]
fn files_are_kept_and_links_are_only_shown() {
    let v03 = json!({"kind": "task", "id": "t", "status": {"state": "completed"}, "artifacts": [
        {"artifactId": "a", "parts": [
            {"kind": "file", "file": {"name": "a.txt", "mimeType": "text/plain", "bytes": "aGk="}},
            {"kind": "file", "file": {"name": "b", "uri": "http://127.0.0.1/b"}},
            {"kind": "file", "file": {"name": "bad", "bytes": "%%%"}}]},
        {"artifactId": "b", "parts": [{"kind": "text", "text": "here"}]}]});
    let v1 = json!({"task": {"id": "t", "status": {"state": "TASK_STATE_COMPLETED"}, "artifacts": [
        {"artifactId": "a", "parts": [
            {"raw": "aGk=", "filename": "a.txt", "mediaType": "text/plain"},
            {"url": "http://127.0.0.1/b", "filename": "b"},
            {"text": "here"}]}]}});
    for task in [v03, v1] {
        let mut reader = Reader::default();
        heard(&mut reader, task);
        let answer = reader.answer();
        let file = File {
            name: Some("a.txt".into()),
            mime: Some("text/plain".into()),
            bytes: b"hi".to_vec(),
        };
        assert_eq!(answer.files, [file]);
        let link = Link { name: Some("b".into()), url: "http://127.0.0.1/b".into() };
        assert_eq!(answer.links, [link]);
        assert_eq!(answer.text, "here");
    }
}
