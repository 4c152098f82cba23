//! What came of a turn, said to people.

use std::time::Duration;

use super::conversation::Turn;
use super::pause::{code, escaped, shortened};
use super::session::{LetGo, Session};
use super::words;
use crate::a2a::{self, Answer};
use crate::model::{Button, ButtonStyle, Placement, Status};
use crate::notifier::{Content, SubmitError};
use crate::telemetry::metrics::TurnOutcome;

/// A turn that took longer ends with a new message, because an edit notifies nobody.
const QUICK: Duration = Duration::from_secs(15);
/// The largest file that is uploaded, in bytes.
const MOST_UPLOAD: usize = 8 * 1024 * 1024;
/// A text that is too long to be shown begins like this, and is attached.
const MOST_HEAD: usize = 1_500;

impl Session {
    pub(super) async fn say_answer(&mut self, answer: Answer) -> Result<(), LetGo> {
        let mut text = answer.text.trim().to_owned();
        if answer.cut {
            text.push_str("\n\n*(the rest was cut off)*");
        }
        for link in &answer.links {
            let name = link.name.as_deref().unwrap_or("file");
            text.push_str(&format!("\n\n{}: {}", escaped(&shortened(name, 100)), link.url));
        }
        let mut files = Vec::new();
        for (n, file) in answer.files.into_iter().enumerate() {
            let name = file_name(file.name.as_deref(), n);
            if file.bytes.len() > MOST_UPLOAD {
                text.push_str(&format!(
                    "\n\n*(the file {} is too large to be shown)*",
                    code(&name)
                ));
                continue;
            }
            let mime = file.mime.unwrap_or_else(|| "application/octet-stream".to_owned());
            files.push(Content::File { name, mime, bytes: file.bytes });
        }
        if text.is_empty() && files.is_empty() {
            text.push_str("The agent finished without an answer.");
        }
        let mut content = Vec::new();
        if !text.is_empty() {
            content.push(Content::Text(text));
        }
        content.append(&mut files);
        self.conclude(content, TurnOutcome::Answered).await
    }

    /// The agent could not be asked.
    pub(super) async fn failed(&mut self, error: &a2a::Error) -> Result<(), LetGo> {
        let reference = self.reference();
        tracing::warn!(conversation = self.conversation(), reference, %error, "the agent could not be asked");
        let line = words::trouble(error, &reference);
        let unknown = self.talk.turn.as_ref().is_some_and(|turn| turn.task_id.is_none());
        if unknown && (error.may_have_arrived() || error.is_passing()) {
            return self.may_have_arrived(line).await;
        }
        if matches!(error, a2a::Error::UnknownTask) {
            self.talk.start_afresh();
        }
        self.conclude(vec![Content::Text(line)], TurnOutcome::Failed).await
    }

    /// Tells that the message may be with the agent, and lets a person decide whether to ask again.
    pub(super) async fn may_have_arrived(&mut self, line: String) -> Result<(), LetGo> {
        let Some(turn) = self.talk.turn.clone() else { return Ok(()) };
        let key = self.offer_again(turn.inputs.clone());
        self.save(false, None).await?;
        let label = "Ask again".to_owned();
        let rows = vec![vec![Button { key, label, style: ButtonStyle::Plain }]];
        self.conclude(vec![Content::Card { text: line, rows }], TurnOutcome::Lost).await
    }

    /// Ends the turn with this: in the placeholder's place if it was quick, else as a new message. Files follow one by one,
    /// so that one that cannot be uploaded takes nothing else with it.
    pub(super) async fn conclude(
        &mut self,
        content: Vec<Content>,
        outcome: TurnOutcome,
    ) -> Result<(), LetGo> {
        let Some(turn) = self.talk.turn.clone() else { return Ok(()) };
        let Some(asker) = turn.asker() else { return Ok(()) };
        let (mut files, mut words): (Vec<_>, Vec<_>) =
            content.into_iter().partition(|piece| matches!(piece, Content::File { .. }));
        if words.is_empty() {
            words.push(Content::Text("The agent sends:".to_owned()));
        }
        let took = self.now().since(turn.started_at);
        let replaces = turn.placeholder.clone().filter(|_| took < QUICK && turn.pauses == 0);
        let placement = self.talk.placement(asker);
        let key = format!("{}:answer", turn.id);
        let (visit, words_again) = (asker.visit.clone(), words.clone());
        let said = self.try_say(&visit, placement.clone(), words, replaces.clone(), &key).await?;
        let mut replaced = replaces.is_some();
        match said {
            // The placeholder is gone, or cannot be edited any more.
            Ok(receipt) if receipt.status == Status::Failed && replaced => {
                replaced = false;
                let key = format!("{key}:new");
                self.say(&visit, placement.clone(), words_again, None, &key).await?;
            }
            Ok(_) | Err(SubmitError::KeyReused) => {}
            Err(SubmitError::Render(_) | SubmitError::Huge { .. }) => {
                let (head, whole) = as_file(words_again);
                files.extend(whole);
                let key = format!("{key}:head");
                self.say(&visit, placement.clone(), head, replaces, &key).await?;
            }
            Err(SubmitError::Blocked(blocked)) => {
                tracing::warn!(conversation = self.conversation(), %blocked, "an answer was kept back");
                let line =
                    "The agent has answered, but I may not show it: it holds a secret.".to_owned();
                let (said, key) = (vec![Content::Text(line)], format!("{key}:kept"));
                self.say(&visit, placement.clone(), said, replaces, &key).await?;
            }
            Err(error) => {
                tracing::error!(conversation = self.conversation(), %error, "an answer could not be said");
            }
        }
        for (n, file) in files.into_iter().enumerate() {
            self.attach(&turn, file, n).await?;
        }
        if !replaced {
            self.finish_placeholder(&turn).await?;
        }
        self.talk.last_at = self.now();
        self.turn_over(&turn, outcome).await
    }

    /// There is no turn in progress any more.
    pub(super) async fn turn_over(
        &mut self,
        turn: &Turn,
        outcome: TurnOutcome,
    ) -> Result<(), LetGo> {
        self.talk.turn = None;
        self.note_end(turn, outcome);
        self.save(false, None).await?;
        let took = self.now().since(turn.started_at);
        self.inner.metrics.turn_ended(&self.talk.agent, outcome, took);
        Ok(())
    }

    /// Uploads a file, or says why it cannot be seen.
    async fn attach(&mut self, turn: &Turn, file: Content, n: usize) -> Result<(), LetGo> {
        let (Some(asker), Content::File { name, .. } | Content::Attached { name, .. }) =
            (turn.asker(), &file)
        else {
            return Ok(());
        };
        let (shown, placement) = (code(name), self.talk.placement(asker));
        let placement = Placement { reply_to: None, ..placement };
        let key = format!("{}:file:{n}", turn.id);
        let said = self.say(&asker.visit, placement.clone(), vec![file], None, &key).await?;
        let failed = said.filter(|receipt| receipt.status == Status::Failed);
        if let Some(receipt) = failed {
            let why = receipt.hint.map(|hint| format!(": {}", escaped(&hint))).unwrap_or_default();
            let line = format!("*The file {shown} could not be uploaded{why}*");
            let content = vec![Content::Text(line)];
            self.say(&asker.visit, placement, content, None, &format!("{key}:failed")).await?;
        }
        Ok(())
    }

    /// Says a line to whom the turn is for.
    pub(super) async fn line(&mut self, line: &str, key: &str) -> Result<(), LetGo> {
        let Some(asker) = self.talk.turn.as_ref().and_then(Turn::asker).cloned() else {
            return Ok(());
        };
        let placement = Placement { reply_to: None, ..self.talk.placement(&asker) };
        self.say(&asker.visit, placement, vec![Content::Text(line.to_owned())], None, key).await?;
        Ok(())
    }

    /// What finds a turn's lines in the log.
    pub(super) fn reference(&self) -> String {
        let id = self.talk.turn.as_ref().map_or("", |turn| &turn.id);
        id.chars().rev().take(8).collect::<Vec<_>>().into_iter().rev().collect()
    }
}

/// A file's name without anything that could lead elsewhere.
fn file_name(name: Option<&str>, n: usize) -> String {
    let name = name.unwrap_or_default().rsplit(['/', '\\']).next().unwrap_or_default();
    let name: String = name.chars().filter(|c| !c.is_control()).take(100).collect();
    let name = name.trim().trim_start_matches('.');
    if name.is_empty() { format!("file-{}", n + 1) } else { name.to_owned() }
}

/// A text that is too long for the platform: its beginning, and all of it as a file.
fn as_file(content: Vec<Content>) -> (Vec<Content>, Vec<Content>) {
    let texts: Vec<String> = content
        .into_iter()
        .filter_map(|piece| match piece {
            Content::Text(text) | Content::Card { text, .. } => Some(text),
            Content::File { .. } | Content::Attached { .. } => None,
        })
        .collect();
    let text = texts.join("\n\n");
    let head: String = text.chars().take(MOST_HEAD).collect();
    let head = Content::Text(format!("{head}…\n\n*The whole answer is attached.*"));
    (vec![head], vec![Content::Attached { name: "answer.md".to_owned(), text }])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_files_name_leads_nowhere() {
        assert_eq!(file_name(Some("../../etc/passwd"), 0), "passwd");
        assert_eq!(file_name(Some("..\\.hidden\n"), 0), "hidden");
        assert_eq!(file_name(None, 1), "file-2");
    }
}
