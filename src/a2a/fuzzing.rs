//! Entry point of the fuzzer: what agents answer, in either dialect.

#![expect(clippy::unwrap_used, reason = "a panic is a finding")]

use http::StatusCode;
use serde_json::{Map, Value};

use super::card::AgentCard;
use super::dialect::{Call, Dialect};
use super::pause::{Decision, Pause};
use super::read::{Heard, Reader};
use super::sse::{Frame, Splitter};
use super::turn::{Content, Outgoing, State, Update};
use super::wire::{self, Reply};

/// An answer. Its first line says what it is: an HTTP status, `sse`, or `card`.
pub(crate) fn answer(data: &[u8]) {
    let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let (head, body) = data.split_at(end);
    let body = body.strip_prefix(b"\n").unwrap_or(body);
    let mut reader = Reader::default();
    match head {
        b"sse" => stream(body, &mut reader),
        b"card" => {
            let card = serde_json::from_slice(body).ok();
            if let Some(card) = card.as_ref().and_then(AgentCard::read) {
                assert_eq!(card.dialect, card.choice().name());
            }
        }
        status => {
            let status = std::str::from_utf8(status).ok().and_then(|status| status.parse().ok());
            let status = status.and_then(|status| StatusCode::from_u16(status).ok());
            let status = status.unwrap_or(StatusCode::OK);
            match wire::understand(status, body) {
                Ok(Reply::Result(result)) => {
                    read(&mut reader, &result);
                    // Asked again, as by polling: nothing is there twice.
                    let once = reader.answer();
                    read(&mut reader, &result);
                    assert_eq!(reader.answer().files, once.files, "files of the same task");
                }
                Ok(Reply::Refusal(refusal)) => judge_word(&refusal.message),
                Ok(Reply::Stream(_)) => unreachable!("a body is no stream"),
                Err(error) => judge_word(&error.to_string()),
            }
        }
    }
    judge(&reader);
}

/// What the agent says of a trouble goes to the log: it is bounded.
fn judge_word(word: &str) {
    assert!(word.len() <= 2_000, "{} bytes", word.len());
}

/// A stream, which says the same however it is cut on its way.
fn stream(body: &[u8], reader: &mut Reader) {
    let split = |piece: usize| {
        let (mut splitter, mut frames) = (Splitter::default(), Vec::new());
        let ended = body.chunks(piece).try_for_each(|bytes| splitter.push(bytes, &mut frames));
        (frames, ended)
    };
    let (frames, ended) = split(body.len().max(1));
    assert_eq!(split(1), (frames, ended), "cut into single bytes");
    for frame in split(7).0 {
        if let Some(refusal) = frame.refusal() {
            judge_word(&refusal.message);
        }
        match frame {
            Frame::Data(value) => match wire::envelope(value) {
                Ok(Reply::Result(result)) => read(reader, &result),
                Ok(Reply::Refusal(_)) => {}
                Ok(Reply::Stream(_)) => unreachable!("an event is no stream"),
                Err(error) => judge_word(&error.to_string()),
            },
            Frame::Alive => {}
            // It broke off, and is listened to again.
            Frame::Error(_) => {
                reader.miss();
                reader.keep_streamed();
            }
        }
    }
}

fn read(reader: &mut Reader, result: &Value) {
    reader.note(result);
    let mut updates = Vec::new();
    let heard = reader.read(result, &mut updates);
    for update in updates {
        let Update::Tool { id, name, .. } = update else { unreachable!("{update:?}") };
        assert!(id.len() <= 200 && name.len() <= 200, "{id} {name}");
    }
    if let Heard::Stopped(state) = heard {
        let outcome = reader.outcome(state);
        match &outcome.state {
            State::Failed { message }
            | State::Rejected { message }
            | State::AuthRequired { message } => judge_word(message),
            State::InputRequired(pause) => judge_pause(pause),
            State::Completed | State::Canceled => {}
            other => unreachable!("{other:?} is nothing that an agent says"),
        }
    }
}

/// It is stored until somebody decides, and then every tool and every question has its answer in both dialects.
fn judge_pause(pause: &Pause) {
    let stored = serde_json::to_string(pause).unwrap();
    assert_eq!(serde_json::from_str::<Pause>(&stored).unwrap(), *pause, "as it is stored");
    let decision = match pause {
        Pause::Text(_) => return,
        Pause::Approval(approval) => {
            assert!(!approval.tools.is_empty(), "nothing to approve");
            approval.reject_all("no", Some("why"))
        }
        Pause::Questions(questions) => {
            assert!(!questions.questions.is_empty(), "nothing is asked");
            questions.answer("yes", |_, question| question.choices.clone())
        }
    };
    let stored = serde_json::to_string(&decision).unwrap();
    assert_eq!(serde_json::from_str::<Decision>(&stored).unwrap(), decision, "as it is stored");
    let message = Outgoing {
        message_id: "m".to_owned(),
        context_id: "c".to_owned(),
        task_id: Some("t".to_owned()),
        content: Content::Decision(decision),
        metadata: Map::new(),
    };
    for dialect in [Dialect::V0_3, Dialect::V1_0] {
        let sent = dialect.send(Call::Stream, &message).to_string();
        if let Pause::Approval(approval) = pause {
            let named = |id: &str| sent.contains(&Value::from(id).to_string());
            assert!(approval.tools.iter().all(|tool| named(&tool.id)), "{sent}");
            assert!(!sent.contains("\"approved\":true"), "{sent}");
        }
    }
}

/// Whatever the agent says, what is kept of it is bounded.
fn judge(reader: &Reader) {
    let answer = reader.answer();
    assert!(answer.text.len() <= 1024 * 1024 && reader.showing().len() <= 1024 * 1024);
    assert!(answer.files.len() <= 50 && answer.links.len() <= 50, "{answer:?}");
    let bytes: usize = answer.files.iter().map(|file| file.bytes.len()).sum();
    assert!(bytes <= 20 * 1024 * 1024, "{bytes} bytes");
    assert!(answer.links.iter().all(|link| link.url.len() <= 2_000), "{answer:?}");
}
