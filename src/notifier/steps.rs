//! What there is to do for a submission, step by step.

use crate::model::{Action, DeliveryId, MessageRef, Part, Step};
use crate::render::Document;

/// The longest thread name, in characters: Discord's limit is 100.
const MOST_TITLE_CHARS: usize = 80;

/// Sends `parts` in order; a thread is opened after the first one if it is to have a name.
pub(super) fn send(id: DeliveryId, parts: Vec<Part>, thread: Option<String>) -> Vec<Step> {
    let mut actions: Vec<Action> = parts.into_iter().map(|part| Action::Send { part }).collect();
    if let Some(name) = thread {
        actions.insert(1.min(actions.len()), Action::OpenThread { name });
    }
    numbered(id, actions)
}

/// Sends `parts` in order; the first one takes the place of `replaces`, if there is such a message.
pub(super) fn reply(id: DeliveryId, parts: Vec<Part>, replaces: Option<MessageRef>) -> Vec<Step> {
    let mut replaces = replaces;
    let actions = parts.into_iter().map(|part| match (&part, replaces.take()) {
        // A text cannot become a file.
        (Part::File(_), _) | (_, None) => Action::Send { part },
        (_, Some(MessageRef { id: message_id, thread })) => {
            Action::Edit { message_id, thread, part }
        }
    });
    numbered(id, actions.collect())
}

/// Puts `parts` in place of `messages`; messages that are left over are deleted.
pub(super) fn edit(id: DeliveryId, messages: &[MessageRef], parts: Vec<Part>) -> Vec<Step> {
    let mut parts = parts.into_iter();
    let actions = messages.iter().map(|message| {
        let (message_id, thread) = (message.id.clone(), message.thread.clone());
        match parts.next() {
            Some(part) => Action::Edit { message_id, thread, part },
            None => Action::Delete { message_id, thread },
        }
    });
    numbered(id, actions.collect())
}

/// Gives each step its nonce: the delivery's 16 bytes in base 36 leave no room for a part in Discord's 25 characters,
/// so the number of the step is added to the delivery's number.
fn numbered(id: DeliveryId, actions: Vec<Action>) -> Vec<Step> {
    let base = id.0.as_u128();
    let nonce = |n: usize| base36(base.wrapping_add(n as u128));
    actions.into_iter().enumerate().map(|(n, action)| Step { nonce: nonce(n), action }).collect()
}

/// At most 25 characters for 128 bits.
fn base36(mut number: u128) -> String {
    let mut digits = Vec::with_capacity(25);
    loop {
        let digit = u32::try_from(number % 36).unwrap_or(0);
        digits.push(char::from_digit(digit, 36).unwrap_or('0'));
        number /= 36;
        if number == 0 {
            return digits.into_iter().rev().collect();
        }
    }
}

/// A thread's name, from the first words of its first message.
pub(super) fn title(document: &Document) -> String {
    let lines = document.texts().flat_map(|text| text.text.lines());
    let line = lines.map(|line| line.trim_matches(|c: char| !c.is_alphanumeric()));
    let title: String = line
        .filter(|line| !line.is_empty())
        .take(1)
        .flat_map(str::chars)
        .filter(|c| !c.is_control())
        .take(MOST_TITLE_CHARS)
        .collect();
    if title.is_empty() { "continued".to_owned() } else { title }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::model::TextPart;
    use crate::render::parse;

    fn part(text: &str) -> Part {
        Part::Text(TextPart::new(text, text))
    }

    #[test]
    fn nonces_fit_discord_and_differ() {
        let id = DeliveryId::new(Timestamp(1_700_000_000_000));
        let steps = send(id, vec![part("a"), part("b")], Some("thread".to_owned()));
        assert!(matches!(steps[1].action, Action::OpenThread { .. }));
        assert!(steps.iter().all(|step| step.nonce.len() <= 25));
        assert_ne!(steps[0].nonce, steps[2].nonce);
        assert_eq!(base36(u128::MAX).len(), 25);
    }

    #[test]
    fn an_edit_deletes_what_is_left_over() {
        let id = DeliveryId::new(Timestamp(0));
        let message = |id: &str| MessageRef { id: id.to_owned(), thread: None };
        let steps = edit(id, &[message("1"), message("2")], vec![part("new")]);
        assert!(matches!(&steps[0].action, Action::Edit { message_id, .. } if message_id == "1"));
        assert!(matches!(&steps[1].action, Action::Delete { message_id, .. } if message_id == "2"));
    }

    #[test]
    fn a_title_is_the_first_line_without_markup() {
        assert_eq!(title(&parse("\n## **Disk** full!\nmore")), "Disk full");
        assert_eq!(title(&parse("***")), "continued");
    }
}
