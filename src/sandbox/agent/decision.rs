//! What somebody decided, read as strictly as the two runtimes do.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::script::{Act, Part, Pause, result};

/// The extension of kagent 1.0 for approvals and questions.
pub(super) const HITL: &str = "https://kagent.dev/extensions/hitl/v1";

/// The decisions in a message, whatever their shape: for the log. `*` stands for a uniform one.
pub(super) fn decisions(message: &Value) -> BTreeMap<String, bool> {
    let mut found = BTreeMap::new();
    if let Some(data) = adk(message) {
        match data.get("decision_type").and_then(Value::as_str) {
            Some("batch") => {
                for (id, decision) in
                    data.get("decisions").and_then(Value::as_object).into_iter().flatten()
                {
                    found.insert(id.clone(), decision == "approve");
                }
            }
            Some(uniform) => {
                found.insert("*".to_owned(), uniform == "approve");
            }
            None => {}
        }
    }
    for approval in list(hitl(message).and_then(|payload| payload.get("approvals"))) {
        if let Some(id) = approval.get("id").and_then(Value::as_str) {
            found.insert(id.to_owned(), approval.get("approved") == Some(&Value::Bool(true)));
        }
    }
    found
}

/// The answers in a message, whatever their shape: for the log.
pub(super) fn answers(message: &Value) -> Vec<Vec<String>> {
    let given = adk(message).and_then(|data| data.get("ask_user_answers"));
    let given = given.or_else(|| hitl(message).and_then(|payload| payload.get("answers")));
    list(given).iter().map(words).collect()
}

fn words(answer: &Value) -> Vec<String> {
    list(answer.get("answer")).iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn list(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The data part that carries a decision in 0.3.
pub(super) fn adk(message: &Value) -> Option<&Map<String, Value>> {
    list(message.get("parts"))
        .iter()
        .filter_map(|part| part.get("data").and_then(Value::as_object))
        .find(|data| data.contains_key("decision_type"))
}

/// The payload that carries a decision in 1.0: the URI has to stand in `extensions` too.
pub(super) fn hitl(message: &Value) -> Option<&Map<String, Value>> {
    list(message.get("extensions"))
        .iter()
        .any(|uri| uri == HITL)
        .then(|| message.get("metadata")?.get(HITL)?.as_object())
        .flatten()
}

enum Verdict {
    Run,
    /// Nobody decided about it, and 0.3 runs it.
    RunUnasked,
    Reject(Option<String>),
}

/// Goes on after a decision in 0.3. An id that is left out is approved.
pub(super) fn resume_old(pause: &Pause, decision: &Map<String, Value>) -> Vec<Act> {
    let text = |name: &str, id: &str| {
        decision.get(name).and_then(|of| of.get(id)).and_then(Value::as_str).map(str::to_owned)
    };
    if matches!(pause, Pause::Questions(_)) {
        let given: Vec<Vec<String>> =
            list(decision.get("ask_user_answers")).iter().map(words).collect();
        return answered(pause, &given);
    }
    let kind = decision.get("decision_type").and_then(Value::as_str).unwrap_or_default();
    let verdicts = pause.calls().iter().map(|call| match kind {
        "batch" => match text("decisions", &call.id).as_deref() {
            Some("reject") => Verdict::Reject(text("rejection_reasons", &call.id)),
            Some(_) => Verdict::Run,
            None => Verdict::RunUnasked,
        },
        "reject" => Verdict::Reject(
            decision.get("rejection_reason").and_then(Value::as_str).map(str::to_owned),
        ),
        _ => Verdict::Run,
    });
    ran(pause, verdicts.collect())
}

/// Goes on after a decision in 1.0, or says why the task fails.
pub(super) fn resume_new(
    pause: &Pause,
    decision: &Map<String, Value>,
    message: &Value,
) -> Result<Vec<Act>, String> {
    let kind = decision.get("type").and_then(Value::as_str).unwrap_or_default();
    match (pause, kind) {
        (Pause::Questions(call), "ask_user_response") => {
            only(decision, &["type", "id", "answers"])?;
            if decision.get("id").and_then(Value::as_str) != Some(&call.confirmation) {
                return Err("Ask user response id does not match the request".to_owned());
            }
            let given: Vec<Vec<String>> = list(decision.get("answers")).iter().map(words).collect();
            if given.len() != pause.questions().len() {
                return Err("Ask user response needs one answer per question".to_owned());
            }
            Ok(answered(pause, &given))
        }
        (Pause::Tools(_) | Pause::Nested { .. }, "tool_approval_response") => {
            only(decision, &["type", "approvals"])?;
            if matches!(pause, Pause::Nested { .. }) && list(message.get("parts")).is_empty() {
                return Err("resume failed: Validation failed".to_owned());
            }
            let given = approvals(pause, list(decision.get("approvals")))?;
            Ok(ran(pause, given))
        }
        _ => Err(format!("HITL response {kind} does not match the stored request")),
    }
}

fn approvals(pause: &Pause, given: &[Value]) -> Result<Vec<Verdict>, String> {
    let mut by_id = BTreeMap::new();
    for approval in given {
        let object = approval.as_object().ok_or("Tool approval response is malformed")?;
        only(object, &["id", "approved", "rejection_reason"])?;
        let id = object.get("id").and_then(Value::as_str).ok_or("Tool approval has no id")?;
        let approved =
            object.get("approved").and_then(Value::as_bool).ok_or("Tool approval is no boolean")?;
        if by_id.insert(id.to_owned(), (approved, object.get("rejection_reason"))).is_some() {
            return Err(format!("Tool approval response has duplicate ids: {id}"));
        }
    }
    let asked: BTreeSet<&str> = pause.calls().iter().map(|c| c.confirmation.as_str()).collect();
    let unknown: Vec<&str> =
        by_id.keys().map(String::as_str).filter(|id| !asked.contains(id)).collect();
    if !unknown.is_empty() {
        return Err(format!("Tool approval response has unknown ids: {}", unknown.join(", ")));
    }
    let missing: Vec<&str> = asked.into_iter().filter(|id| !by_id.contains_key(*id)).collect();
    if !missing.is_empty() {
        return Err(format!("Tool approval response is missing ids: {}", missing.join(", ")));
    }
    let verdict = |(approved, reason): &(bool, Option<&Value>)| {
        let reason = reason.and_then(Value::as_str).map(str::to_owned);
        if *approved { Verdict::Run } else { Verdict::Reject(reason) }
    };
    Ok(pause.calls().iter().filter_map(|c| by_id.get(&c.confirmation)).map(verdict).collect())
}

/// No field but these, as the models of 1.0 forbid.
fn only(object: &Map<String, Value>, fields: &[&str]) -> Result<(), String> {
    match object.keys().find(|key| !fields.contains(&key.as_str())) {
        Some(extra) => Err(format!("Validation failed: {extra}: Extra inputs are not permitted")),
        None => Ok(()),
    }
}

/// The tools run or do not.
fn ran(pause: &Pause, verdicts: Vec<Verdict>) -> Vec<Act> {
    let mut parts = Vec::new();
    let mut lines = Vec::new();
    for (call, verdict) in pause.calls().iter().zip(verdicts) {
        let done = done(&call.name, &call.args);
        let (line, response) = match verdict {
            Verdict::Run => (done.clone(), result(&done)),
            Verdict::RunUnasked => {
                let line = format!("RUN WITHOUT A DECISION: {done}");
                (line.clone(), result(&line))
            }
            Verdict::Reject(reason) => {
                let mut line = "Tool call was rejected by user.".to_owned();
                if let Some(reason) = reason {
                    line.push_str(&format!(" Reason: {reason}"));
                }
                (line.clone(), json!({ "result": line }))
            }
        };
        parts.push(Part::Response { id: call.id.clone(), name: call.name.clone(), response });
        lines.push(line);
    }
    let mut answer = format!("Tool results: {}", lines.join(" | "));
    if let Pause::Nested { outer, .. } = pause {
        let (id, name) = (outer.id.clone(), outer.name.clone());
        parts = vec![Part::Response { id, name, response: json!({ "result": answer }) }];
        answer = format!("Tool results: {answer}");
    }
    vec![Act::Step(parts), Act::Step(vec![Part::Text(answer)])]
}

fn done(name: &str, args: &Value) -> String {
    let of = |key: &str| args.get(key).and_then(Value::as_str).unwrap_or("?").to_owned();
    match name {
        "k8s_delete_pod" => format!("deleted pod {}/{}", of("namespace"), of("name")),
        "k8s_scale" => format!("scaled {}/{} to 3", of("namespace"), of("name")),
        _ => format!("upgraded {} to {}", of("release"), of("version")),
    }
}

/// The questions have their answers; one that is missing is empty.
fn answered(pause: &Pause, given: &[Vec<String>]) -> Vec<Act> {
    let pairs: Vec<Value> = pause
        .questions()
        .iter()
        .enumerate()
        .map(|(n, question)| {
            json!({
                "question": question.get("question"),
                "answer": given.get(n).cloned().unwrap_or_default(),
            })
        })
        .collect();
    let text = Value::Array(pairs).to_string();
    let responses = pause.called().iter().map(|call| Part::Response {
        id: call.id.clone(),
        name: call.name.clone(),
        response: json!({ "result": text }),
    });
    vec![
        Act::Step(responses.collect()),
        Act::Step(vec![Part::Text(format!("Tool results: {text}"))]),
    ]
}
