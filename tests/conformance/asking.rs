//! The fixtures that ask the client something before they answer (2026-07-28, `InputRequiredResult`).

use rmcp::ErrorData;
use rmcp::model::{
    CallToolResponse, CallToolResult, ClientCapabilities, ContentBlock, GetPromptResponse,
    GetPromptResult, InputRequiredResult, InputResponses,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{say, typed};

/// A state that nobody else can make up.
fn seal(key: &[u8], state: &str) -> String {
    let digest = Sha256::new().chain_update(key).chain_update(state).finalize();
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{state}.{digest}")
}

fn open<'a>(key: &[u8], sealed: &'a str) -> Result<&'a str, ErrorData> {
    match sealed.split_once('.') {
        Some((state, _)) if seal(key, state) == sealed => Ok(state),
        _ => {
            Err(ErrorData::invalid_params("requestState is not the one that was handed out", None))
        }
    }
}

fn form(message: &str, field: &str, kind: &str) -> Value {
    json!({
        "method": "elicitation/create",
        "params": {
            "message": message,
            "requestedSchema": {
                "type": "object",
                "properties": {field: {"type": kind}},
                "required": [field],
            },
        },
    })
}

fn sampling(text: &str, most: u32) -> Value {
    json!({
        "method": "sampling/createMessage",
        "params": {
            "messages": [{"role": "user", "content": {"type": "text", "text": text}}],
            "maxTokens": most,
        },
    })
}

fn roots() -> Value {
    json!({"method": "roots/list", "params": {}})
}

fn ask(requests: Value, state: Option<String>) -> Result<InputRequiredResult, ErrorData> {
    Ok(InputRequiredResult::new(Some(typed(requests)?), state))
}

/// A form's answer, where it was accepted and holds the field.
fn filled<'a>(answers: &'a InputResponses, key: &str, field: &str) -> Option<&'a Value> {
    let answer = answers.get(key)?;
    (answer.get("action")? == "accept").then_some(())?;
    answer.get("content")?.get(field)
}

pub fn tool(
    key: &[u8],
    name: &str,
    answers: &InputResponses,
    state: Option<&str>,
    declared: &ClientCapabilities,
) -> Result<CallToolResponse, ErrorData> {
    let state = state.map(|sealed| open(key, sealed)).transpose()?;
    let name_form = || form("What is your name?", "name", "string");
    match name {
        "test_input_required_result_elicitation" => {
            match filled(answers, "user_name", "name").and_then(Value::as_str) {
                Some(name) => Ok(say(format!("Hello, {name}!"))),
                None => Ok(ask(json!({"user_name": name_form()}), None)?.into()),
            }
        }
        "test_input_required_result_sampling" => match answers.get("capital_question") {
            Some(answer) => {
                Ok(say(answer.pointer("/content/text").and_then(Value::as_str).unwrap_or_default()))
            }
            None => {
                let question = sampling("What is the capital of France?", 100);
                Ok(ask(json!({"capital_question": question}), None)?.into())
            }
        },
        "test_input_required_result_list_roots" => match answers.get("client_roots") {
            Some(answer) => {
                Ok(say(format!("Roots: {}", answer.get("roots").unwrap_or(&Value::Null))))
            }
            None => Ok(ask(json!({"client_roots": roots()}), None)?.into()),
        },
        "test_input_required_result_request_state"
        | "test_input_required_result_tampered_state" => {
            match (answers.contains_key("confirm"), state) {
                (true, Some(_)) => Ok(say("state-ok")),
                _ => {
                    let confirm = form("Please confirm", "ok", "boolean");
                    Ok(ask(json!({"confirm": confirm}), Some(seal(key, "confirming")))?.into())
                }
            }
        }
        "test_input_required_result_multiple_inputs" => {
            let keys = ["user_name", "greeting", "client_roots"];
            if state.is_some() && keys.iter().all(|key| answers.contains_key(*key)) {
                return Ok(say("all three arrived"));
            }
            let requests = json!({
                "user_name": name_form(),
                "greeting": sampling("Generate a greeting", 50),
                "client_roots": roots(),
            });
            Ok(ask(requests, Some(seal(key, "asking")))?.into())
        }
        "test_input_required_result_multi_round" => match state {
            Some("second") if answers.contains_key("step2") => Ok(say("both rounds are done")),
            Some("first") if answers.contains_key("step1") => {
                let step = form("Step 2: What is your favorite color?", "color", "string");
                Ok(ask(json!({"step2": step}), Some(seal(key, "second")))?.into())
            }
            _ => {
                let step = form("Step 1: What is your name?", "name", "string");
                Ok(ask(json!({"step1": step}), Some(seal(key, "first")))?.into())
            }
        },
        "test_input_required_result_capabilities" => {
            let mut requests = serde_json::Map::new();
            if declared.sampling.is_some() {
                requests.insert("greeting".into(), sampling("Generate a greeting", 50));
            }
            if declared.elicitation.is_some() {
                requests.insert("user_name".into(), name_form());
            }
            Ok(ask(Value::Object(requests), None)?.into())
        }
        "test_sampling" | "test_elicitation" => {
            let text = "a server without sessions cannot ask its client during a call";
            Ok(CallToolResult::error(vec![ContentBlock::text(text)]).into())
        }
        _ => Err(ErrorData::invalid_params(format!("Unknown tool: {name}"), None)),
    }
}

pub fn prompt(answers: &InputResponses) -> Result<GetPromptResponse, ErrorData> {
    match filled(answers, "user_context", "context").and_then(Value::as_str) {
        Some(context) => {
            let content = json!({"type": "text", "text": format!("Use this context: {context}")});
            let messages = json!([{"role": "user", "content": content}]);
            Ok(GetPromptResult::new(typed(messages)?).into())
        }
        None => {
            let question = form("What context should the prompt use?", "context", "string");
            Ok(ask(json!({"user_context": question}), None)?.into())
        }
    }
}
