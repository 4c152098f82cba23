//! What is sent to the agent.

use serde_json::json;

use super::conversation::{Input, Turn, name};
use super::session::{LetGo, Session};
use crate::a2a::{self, OutPart, Outgoing};

/// The largest file that is passed on, in bytes, and all of a turn's together: kagent reads 10 MiB, base64 included.
const MOST_FILE: usize = 4 * 1024 * 1024;
const MOST_FILES: usize = 6 * 1024 * 1024;

impl Session {
    /// What begins a task, with what people attached.
    pub(super) async fn message(&mut self, turn: &Turn) -> Result<Outgoing, LetGo> {
        let content = self.parts(turn.text(), &turn.inputs).await?;
        Ok(self.outgoing(turn, turn.id.clone(), None, content))
    }

    /// A text with what is attached to `inputs`, as far as an agent can read it.
    pub(super) async fn parts(
        &mut self,
        mut text: String,
        inputs: &[Input],
    ) -> Result<a2a::Content, LetGo> {
        let mut files = Vec::new();
        let mut total = 0;
        for input in inputs {
            for attachment in &input.files {
                let shown: String =
                    attachment.name.chars().filter(|c| !c.is_control()).take(100).collect();
                let room = MOST_FILE.min(MOST_FILES - total);
                let platform = self.inner.platforms.get(&input.visit.platform()).cloned();
                let read = match platform {
                    _ if !is_readable(&attachment.mime) => {
                        Err("its type is not one that is passed on".to_owned())
                    }
                    _ if attachment.size.is_some_and(|size| size > room as u64) => {
                        Err("it is too large".to_owned())
                    }
                    Some(platform) => self
                        .meanwhile(platform.fetch(attachment, room))
                        .await?
                        .map_err(|failure| failure.hint),
                    None => Err("it cannot be read".to_owned()),
                };
                match read {
                    Ok(bytes) => {
                        total += bytes.len();
                        let (name, mime) = (Some(shown), Some(attachment.mime.clone()));
                        files.push(OutPart::File(a2a::File { name, mime, bytes }));
                    }
                    Err(why) => text.push_str(&format!(
                        "\n\n[The file {shown:?} was attached, but not passed on: {why}]"
                    )),
                }
            }
        }
        let mut parts = vec![OutPart::Text(text)];
        parts.append(&mut files);
        Ok(a2a::Content::Parts(parts))
    }

    pub(super) fn outgoing(
        &self,
        turn: &Turn,
        message_id: String,
        task_id: Option<String>,
        content: a2a::Content,
    ) -> Outgoing {
        let mut metadata = serde_json::Map::new();
        if let Some(Input { visit, .. }) = turn.asker() {
            let who = json!({
                "platform": visit.platform(), "channel": visit.channel,
                "user_id": visit.person.id, "user_name": name(visit),
            });
            metadata.insert("herald".to_owned(), who);
        }
        Outgoing { message_id, context_id: turn.context_id.clone(), task_id, content, metadata }
    }
}

/// What an agent can read.
fn is_readable(mime: &str) -> bool {
    let mime = mime.split(';').next().unwrap_or_default().trim().to_lowercase();
    mime.starts_with("text/")
        || [
            "application/json",
            "application/yaml",
            "application/x-yaml",
            "application/xml",
            "application/pdf",
            "application/toml",
            "image/png",
            "image/jpeg",
            "image/gif",
            "image/webp",
        ]
        .contains(&mime.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_an_agent_can_read_is_passed_on() {
        assert!(is_readable("text/plain; charset=utf-8") && is_readable("image/png"));
        assert!(!is_readable("application/zip") && !is_readable("video/mp4"));
    }
}
