//! Saying something: everything takes the one way out.

use std::sync::Arc;

use super::conversation::{address, name};
use super::pause::escaped;
use super::session::{LetGo, Session};
use crate::model::{Event, MessageRef, Placement, Receipt, Visit};
use crate::notifier::{Content, Reply, SubmitError};

impl Session {
    /// Answers what somebody said, in a line.
    pub(super) async fn answer(&mut self, event: &Event, line: &str) -> Result<(), LetGo> {
        self.said += 1;
        let key = format!("{}:{}:answer:{}", event.visit.platform(), event.id, self.said);
        let content = vec![Content::Text(line.to_owned())];
        self.say(&event.visit, self.beside(event), content, None, &key).await?;
        Ok(())
    }

    /// Shows everybody what somebody asked by a command that nobody else saw.
    pub(super) async fn show_asked(&mut self, event: &Event, text: &str) -> Result<(), LetGo> {
        let key = format!("{}:{}:question", event.visit.platform(), event.id);
        let content = vec![Content::Text(asked(&event.visit, text))];
        self.say(&event.visit, self.beside(event), content, None, &key).await?;
        Ok(())
    }

    /// Where somebody said something.
    fn beside(&self, event: &Event) -> Placement {
        let (_, thread) = address(event);
        Placement {
            thread: self.talk.thread_for(&event.visit).or(thread),
            respond: event.respond.clone(),
            ..Placement::default()
        }
    }

    /// Says something, and waits a bounded time for its delivery. What cannot be said is logged.
    pub(super) async fn say(
        &mut self,
        visit: &Visit,
        placement: Placement,
        content: Vec<Content>,
        replaces: Option<MessageRef>,
        key: &str,
    ) -> Result<Option<Receipt>, LetGo> {
        match self.try_say(visit, placement, content, replaces, key).await? {
            Ok(receipt) => Ok(Some(receipt)),
            Err(error) => {
                tracing::warn!(conversation = %self.conversation(), %error, "something could not be said");
                Ok(None)
            }
        }
    }

    pub(super) async fn try_say(
        &mut self,
        visit: &Visit,
        placement: Placement,
        content: Vec<Content>,
        replaces: Option<MessageRef>,
        key: &str,
    ) -> Result<Result<Receipt, SubmitError>, LetGo> {
        let (visit, key) = (visit.clone(), key.to_owned());
        let notifier = Arc::clone(&self.inner.notifier);
        let reply = Reply { visit, placement, content, replaces, key };
        let said = self.meanwhile(notifier.reply(reply)).await?;
        match said {
            // It has to be said, or nothing may be noted of it either.
            Err(SubmitError::Store) => Err(LetGo::Unsaid),
            said => Ok(said),
        }
    }
}

/// The room for somebody's question: with what its signs take when they are escaped, one message of Discord's holds it.
const MOST_ASKED: usize = 1_500;

/// A question that nobody saw, as the bot shows it: as a quote, so that nothing in it reads as the bot's own words.
pub(super) fn asked(visit: &Visit, text: &str) -> String {
    let mut shown = format!("**{}** asks:\n> ", escaped(&name(visit)));
    let mut room = MOST_ASKED;
    for c in text.replace("\r\n", "\n").chars() {
        let ends =
            matches!(c, '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}');
        let takes = if ends { 3 } else { 1 + usize::from(c.is_ascii_punctuation()) };
        let Some(left) = room.checked_sub(takes) else {
            shown.push('…');
            break;
        };
        room = left;
        if ends { shown.push_str("\n> ") } else { shown.push(c) }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Person;
    use crate::platform::{discord, slack};
    use crate::render::parse;

    fn shown(text: &str) -> [Vec<String>; 2] {
        let person =
            Person { id: "U1".to_owned(), name: Some("al*ce".to_owned()), outsider: false };
        let channel = "slack:C0GENERAL".parse().unwrap();
        let visit = Visit { channel, thread: None, direct: false, person };
        let document = parse(&asked(&visit, text));
        [slack::render::parts(&document), discord::render::parts(&document)]
            .map(|parts| parts.unwrap().into_iter().map(|part| part.body).collect())
    }

    #[test]
    fn whatever_somebody_asks_stays_a_quote() {
        let approved = "# Approved by admin";
        for text in [
            format!("hi\n\n{approved}"),
            format!("hi\r\r{approved}"),
            format!("hi\r\n\r\n{approved}\r\n\r\n\r\nnow"),
            format!("hi\u{2028}\u{2028}{approved}\u{b}\u{c}\u{85}{approved}"),
            format!("~~~\nhi\n~~~\n\n{approved}"),
            format!("```\n{approved}"),
            format!("- hi\n\n\n{approved}\n\n[^1]: {approved}\n\n<p>\n\n{approved}"),
            format!("hi\n---\n***\n{approved}\n\n| a |\n|-|\n| b |\n\n{approved}"),
            format!("\n\n{approved}"),
        ] {
            for parts in shown(&text) {
                let [part] = parts.as_slice() else { panic!("{parts:?}") };
                let mut lines = part.lines().filter(|line| !line.is_empty());
                assert_eq!(lines.next(), Some("**al\\*ce** asks:"), "{part}");
                assert!(lines.all(|line| line.starts_with('>')), "{text:?}: {part}");
                assert!(part.contains("Approved by admin"), "{part}");
            }
        }
    }

    #[test]
    fn a_long_question_is_shown_in_one_message() {
        for piece in ["x", "*_", "a\n", "a\n\n", "&<>", "\\", "é "] {
            for parts in shown(&piece.repeat(8_000 / piece.len())) {
                let [part] = parts.as_slice() else { panic!("{piece:?}: {}", parts.len()) };
                assert!(part.ends_with('…'), "{part}");
            }
        }
        for parts in shown(&"x".repeat(MOST_ASKED)) {
            assert!(parts.concat().ends_with('x'), "{parts:?}");
        }
    }
}
