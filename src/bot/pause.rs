//! A turn that waits for a person: the card, the buttons, who decided what. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::conversation::new_key;
use crate::a2a::{Approval, Decision, Pause, Questions, Verdict};
use crate::clock::Timestamp;
use crate::model::{Button, ButtonStyle, MessageRef, ResponseUrl};

/// Longer arguments are shown in part, and in full as a file.
const MOST_ARGUMENTS: usize = 600;
/// The longest label of a button that is ours to write.
const MOST_LABEL: usize = 60;
/// More choices than this are written out, and answered in words.
const MOST_CHOICES: usize = 20;

/// What the agent waits for, and what was decided so far.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Pending {
    /// What is asked.
    pub pause: Pause,
    /// Per tool, by its ID.
    pub rulings: BTreeMap<String, Ruling>,
    /// The answers to the first questions.
    pub answers: Vec<Vec<String>>,
    /// What is ticked of the current question's choices.
    pub ticked: Vec<usize>,
    /// What the buttons stand for.
    pub buttons: Vec<(String, Choice)>,
    /// The message they stand on.
    pub card: Option<MessageRef>,
    /// Nobody's decision counts after this.
    pub expires_at: Timestamp,
    /// Somebody who wrote meanwhile was told to use the buttons.
    #[serde(default)]
    pub told: bool,
    /// Who gave the last answer.
    #[serde(default)]
    pub answered_by: Option<String>,
    /// What the agent said before it asked.
    #[serde(default)]
    pub preface: String,
    /// When people could see it: what was written before that is no answer.
    #[serde(default)]
    pub shown_at: Option<Timestamp>,
    /// Where the card can be reached if the bot is no member.
    #[serde(default)]
    pub respond: Option<ResponseUrl>,
    /// The metrics know what was decided.
    #[serde(default)]
    pub counted: bool,
    /// It was called off by somebody, or because nobody replied.
    #[serde(default)]
    pub called_off: Option<String>,
}

/// What somebody decided about a tool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ruling {
    pub approved: bool,
    /// Who, by name; `None` is nobody in time.
    pub by: Option<String>,
    pub at: Timestamp,
}

/// What a button stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Choice {
    Approve(String),
    Reject(String),
    ApproveAll,
    RejectAll,
    /// A question's choice, by their places.
    Pick(usize, usize),
    /// No more choices for this question.
    Done(usize),
}

/// What a decision did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing: somebody else was first.
    Late,
    /// Something, and more is to be decided.
    Partly,
    /// Everything is decided.
    Complete,
}

impl Pending {
    pub(super) fn new(pause: Pause, expires_at: Timestamp) -> Self {
        let mut buttons = Vec::new();
        let mut add = |choice| buttons.push((new_key(), choice));
        match &pause {
            Pause::Approval(approval) => {
                for tool in &approval.tools {
                    add(Choice::Approve(tool.id.clone()));
                    add(Choice::Reject(tool.id.clone()));
                }
                add(Choice::ApproveAll);
                add(Choice::RejectAll);
            }
            Pause::Questions(asked) => {
                for (at, question) in asked.questions.iter().enumerate() {
                    for choice in 0..question.choices.len().min(MOST_CHOICES) {
                        add(Choice::Pick(at, choice));
                    }
                    add(Choice::Done(at));
                }
            }
            Pause::Text(_) => {}
        }
        Self {
            pause,
            rulings: BTreeMap::new(),
            answers: Vec::new(),
            ticked: Vec::new(),
            buttons,
            card: None,
            expires_at,
            told: false,
            answered_by: None,
            preface: String::new(),
            shown_at: None,
            respond: None,
            counted: false,
            called_off: None,
        }
    }

    /// What a key stands for.
    pub(super) fn choice(&self, key: &str) -> Option<&Choice> {
        self.buttons.iter().find(|(known, _)| known == key).map(|(_, choice)| choice)
    }

    fn button(&self, choice: &Choice, label: String, style: ButtonStyle) -> Option<Button> {
        let (key, _) = self.buttons.iter().find(|(_, known)| known == choice)?;
        Some(Button { key: key.clone(), label: shortened(&label, MOST_LABEL), style })
    }

    /// Somebody pressed a button. The first decision about a tool, or answer to a question, counts.
    pub(super) fn press(&mut self, choice: &Choice, by: &str, now: Timestamp) -> Step {
        match (choice, &self.pause) {
            (Choice::Approve(id), Pause::Approval(_)) => {
                self.rule(std::slice::from_ref(id), true, by, now)
            }
            (Choice::Reject(id), Pause::Approval(_)) => {
                self.rule(std::slice::from_ref(id), false, by, now)
            }
            (Choice::ApproveAll | Choice::RejectAll, Pause::Approval(approval)) => {
                let ids: Vec<String> = approval.tools.iter().map(|tool| tool.id.clone()).collect();
                self.rule(&ids, *choice == Choice::ApproveAll, by, now)
            }
            (Choice::Pick(at, choice), Pause::Questions(asked)) if *at == self.answers.len() => {
                let Some(question) = asked.questions.get(*at) else { return Step::Late };
                if question.multiple {
                    match self.ticked.iter().position(|ticked| ticked == choice) {
                        Some(place) => drop(self.ticked.remove(place)),
                        None => self.ticked.push(*choice),
                    }
                    return Step::Partly;
                }
                let answer = question.choices.get(*choice).cloned();
                self.answer(answer.into_iter().collect(), by)
            }
            (Choice::Done(at), Pause::Questions(asked)) if *at == self.answers.len() => {
                let Some(question) = asked.questions.get(*at) else { return Step::Late };
                let ticked = |(place, choice): (usize, &String)| {
                    self.ticked.contains(&place).then(|| choice.clone())
                };
                let answer = question.choices.iter().enumerate().filter_map(ticked).collect();
                self.answer(answer, by)
            }
            _ => Step::Late,
        }
    }

    /// Somebody answered the current question in words.
    pub(super) fn write(&mut self, text: &str, by: &str) -> Step {
        self.answer(vec![text.to_owned()], by)
    }

    fn answer(&mut self, answer: Vec<String>, by: &str) -> Step {
        let Pause::Questions(asked) = &self.pause else { return Step::Late };
        if self.answers.len() >= asked.questions.len() {
            return Step::Late;
        }
        self.answers.push(answer);
        self.ticked.clear();
        self.answered_by = Some(by.to_owned());
        if self.answers.len() == asked.questions.len() { Step::Complete } else { Step::Partly }
    }

    fn rule(&mut self, ids: &[String], approved: bool, by: &str, now: Timestamp) -> Step {
        let mut news = false;
        for id in ids {
            if !self.rulings.contains_key(id) {
                let ruling = Ruling { approved, by: Some(by.to_owned()), at: now };
                self.rulings.insert(id.clone(), ruling);
                news = true;
            }
        }
        match (news, self.is_complete()) {
            (false, _) => Step::Late,
            (true, true) => Step::Complete,
            (true, false) => Step::Partly,
        }
    }

    pub(super) fn is_complete(&self) -> bool {
        match &self.pause {
            Pause::Approval(asked) => {
                asked.tools.iter().all(|tool| self.rulings.contains_key(&tool.id))
            }
            Pause::Questions(asked) => self.answers.len() >= asked.questions.len(),
            Pause::Text(_) => false,
        }
    }

    /// Nobody decided in time, or somebody called it off (`by`): what is open is rejected, never approved.
    pub(super) fn close(&mut self, by: Option<&str>, now: Timestamp) {
        if let Pause::Approval(asked) = &self.pause {
            for tool in &asked.tools {
                self.rulings.entry(tool.id.clone()).or_insert_with(|| Ruling {
                    approved: false,
                    by: by.map(str::to_owned),
                    at: now,
                });
            }
        }
        if !self.is_complete() {
            self.called_off = Some(match by {
                Some(by) => format!("Cancelled by {}", escaped(by)),
                None => "Nobody replied in time".to_owned(),
            });
        }
    }

    /// The decision for the agent, with every tool and every question in it: what nobody approved is rejected.
    pub(super) fn decision(&self) -> Option<Decision> {
        match &self.pause {
            Pause::Approval(asked) => {
                Some(asked.decide(self.label(asked), |tool| match self.rulings.get(&tool.id) {
                    Some(Ruling { approved: true, .. }) => Verdict::Approve,
                    Some(Ruling { by: Some(by), .. }) => {
                        Verdict::Reject { reason: Some(format!("rejected by {by}")) }
                    }
                    _ => Verdict::Reject { reason: Some("nobody decided in time".to_owned()) },
                }))
            }
            Pause::Questions(asked) if self.is_complete() => {
                let by = self.answered_by.as_deref().unwrap_or("nobody");
                Some(asked.answer(format!("answered by {by}"), |at, _| {
                    self.answers.get(at).cloned().unwrap_or_default()
                }))
            }
            Pause::Questions(_) | Pause::Text(_) => None,
        }
    }

    fn label(&self, asked: &Approval) -> String {
        let approved = self.rulings.values().filter(|ruling| ruling.approved).count();
        let by: std::collections::BTreeSet<&str> =
            self.rulings.values().filter_map(|ruling| ruling.by.as_deref()).collect();
        let by =
            if by.is_empty() { "nobody" } else { &by.into_iter().collect::<Vec<_>>().join(", ") };
        format!("{approved} approved, {} rejected by {by}", asked.tools.len() - approved)
    }

    /// What the card says, in Markdown, and the buttons under it; none once everything is decided.
    pub(super) fn card(&self) -> (String, Vec<Vec<Button>>) {
        match &self.pause {
            Pause::Approval(asked) => self.approval_card(asked),
            Pause::Questions(asked) => self.question_card(asked),
            Pause::Text(text) => {
                let end = self.called_off.iter().map(|line| format!("\n\n*{line}.*"));
                (text.clone() + &end.collect::<String>(), Vec::new())
            }
        }
    }

    /// The same in few words, where the whole is too much for the platform.
    pub(super) fn short_card(&self) -> String {
        match &self.pause {
            Pause::Approval(asked) => {
                let names: Vec<_> = self.names(asked).into_iter().map(|name| code(&name)).collect();
                format!("**Approval needed**: {}", shortened(&names.join(", "), 800))
            }
            Pause::Questions(asked) => {
                let question = asked.questions.get(self.answers.len());
                escaped(&shortened(question.map_or("?", |question| &question.text), 800))
            }
            Pause::Text(text) => escaped(&shortened(text, 800)),
        }
    }

    /// The tools' names, told apart where one is called several times.
    fn names(&self, asked: &Approval) -> Vec<String> {
        let named = asked.tools.iter().enumerate().map(|(at, tool)| {
            let same = |other: &&crate::a2a::ToolCall| other.name == tool.name;
            if asked.tools.iter().filter(same).count() < 2 {
                return tool.name.clone();
            }
            let number = asked.tools.iter().take(at + 1).filter(same).count();
            format!("{} #{number}", tool.name)
        });
        named.collect()
    }

    fn approval_card(&self, asked: &Approval) -> (String, Vec<Vec<Button>>) {
        let open = !self.is_complete();
        let mut text = match (&asked.subagent, open) {
            (Some(agent), true) => {
                format!("**Approval needed**, asked by the agent {}\n", code(agent))
            }
            (None, true) => "**Approval needed**\n".to_owned(),
            (_, false) => "**Decided**\n".to_owned(),
        };
        let names = self.names(asked);
        for (tool, name) in asked.tools.iter().zip(&names) {
            text.push('\n');
            match self.rulings.get(&tool.id) {
                Some(Ruling { approved, by, at }) => {
                    let (sign, word) =
                        if *approved { ("✅", "approved") } else { ("❌", "rejected") };
                    let by = match by {
                        Some(by) => format!("by {}", escaped(by)),
                        None => "because nobody decided in time".to_owned(),
                    };
                    text.push_str(&format!(
                        "{sign} {} {word} {by}, {}\n",
                        code(name),
                        time_of_day(*at)
                    ));
                }
                None => {
                    let arguments = arguments(&tool.args);
                    let shown = shortened(&arguments, MOST_ARGUMENTS);
                    let fence = fence(&shown);
                    text.push_str(&format!(
                        "{} with\n\n{fence}json\n{shown}\n{fence}\n",
                        code(name)
                    ));
                }
            }
        }
        if !open {
            return (text, Vec::new());
        }
        let undecided: Vec<_> = asked
            .tools
            .iter()
            .zip(&names)
            .filter(|(tool, _)| !self.rulings.contains_key(&tool.id))
            .collect();
        let ids: std::collections::BTreeSet<&str> =
            asked.tools.iter().map(|tool| tool.id.as_str()).collect();
        let pair = |id: &str, name: &str| {
            let approve = self.button(
                &Choice::Approve(id.to_owned()),
                format!("Approve {name}"),
                ButtonStyle::Good,
            );
            let reject = self.button(
                &Choice::Reject(id.to_owned()),
                format!("Reject {name}"),
                ButtonStyle::Danger,
            );
            approve.into_iter().chain(reject).collect::<Vec<_>>()
        };
        // Five rows of five: four tools in rows of their own, eight in pairs, more only all together.
        let per_row = if undecided.len() <= 4 { 1 } else { 2 };
        // Tools that share an ID can only be decided together.
        let mut rows: Vec<Vec<Button>> = if undecided.len() <= 8 && ids.len() == asked.tools.len() {
            undecided
                .chunks(per_row)
                .map(|tools| tools.iter().flat_map(|(tool, name)| pair(&tool.id, name)).collect())
                .collect()
        } else {
            Vec::new()
        };
        if undecided.len() > 1 {
            let all = [
                (Choice::ApproveAll, "Approve all", ButtonStyle::Good),
                (Choice::RejectAll, "Reject all", ButtonStyle::Danger),
            ];
            rows.push(
                all.into_iter()
                    .filter_map(|(choice, label, style)| {
                        self.button(&choice, label.to_owned(), style)
                    })
                    .collect(),
            );
        }
        (text, rows)
    }

    fn question_card(&self, asked: &Questions) -> (String, Vec<Vec<Button>>) {
        let mut text = String::new();
        if let Some(agent) = &asked.subagent {
            text.push_str(&format!("The agent {} asks:\n\n", code(agent)));
        }
        for (question, answer) in asked.questions.iter().zip(&self.answers) {
            let answer = if answer.is_empty() { "(nothing)".to_owned() } else { answer.join(", ") };
            text.push_str(&format!("{}\n→ **{}**\n\n", escaped(&question.text), escaped(&answer)));
        }
        let at = self.answers.len();
        let Some(question) = asked.questions.get(at) else {
            if let Some(by) = &self.answered_by {
                text.push_str(&format!("Answered by {}", escaped(by)));
            }
            return (text, Vec::new());
        };
        if let Some(line) = &self.called_off {
            text.push_str(&format!("*{line}.*"));
            return (text, Vec::new());
        }
        text.push_str(&format!("**{}**", escaped(&question.text)));
        if asked.questions.len() > 1 {
            text.push_str(&format!(" ({} of {})", at + 1, asked.questions.len()));
        }
        if question.choices.len() > MOST_CHOICES {
            for choice in &question.choices {
                text.push_str(&format!("\n- {}", escaped(choice)));
            }
        }
        text.push_str(if question.choices.is_empty() || question.choices.len() > MOST_CHOICES {
            "\n\nWrite your answer here."
        } else {
            "\n\nChoose, or write your answer here."
        });
        let shown = if question.choices.len() > MOST_CHOICES { 0 } else { question.choices.len() };
        let mut buttons: Vec<Button> = question
            .choices
            .iter()
            .take(shown)
            .enumerate()
            .filter_map(|(place, choice)| {
                let ticked = question.multiple && self.ticked.contains(&place);
                let choice = if choice.trim().is_empty() { "(empty)" } else { choice };
                let label = if ticked { format!("✓ {choice}") } else { choice.to_owned() };
                self.button(&Choice::Pick(at, place), label, ButtonStyle::Plain)
            })
            .collect();
        if question.multiple && shown > 0 {
            buttons.extend(self.button(&Choice::Done(at), "Done".to_owned(), ButtonStyle::Good));
        }
        (text, buttons.chunks(5).map(<[_]>::to_vec).collect())
    }

    /// The arguments that the card shows only in part, for a file: its name and what is in it.
    pub(super) fn long_arguments(&self) -> Option<(String, Vec<u8>)> {
        let Pause::Approval(asked) = &self.pause else { return None };
        let long =
            asked.tools.iter().any(|tool| arguments(&tool.args).chars().count() > MOST_ARGUMENTS);
        if !long {
            return None;
        }
        let all: Vec<serde_json::Value> = asked
            .tools
            .iter()
            .map(|tool| serde_json::json!({ "tool": tool.name, "arguments": tool.args }))
            .collect();
        let text = serde_json::to_string_pretty(&all).ok()?;
        Some(("arguments.json".to_owned(), text.into_bytes()))
    }
}

fn arguments(value: &serde_json::Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

/// A fence that the text cannot close.
fn fence(text: &str) -> String {
    let mut longest = 0;
    let mut run = 0;
    for c in text.chars() {
        run = if c == '`' { run + 1 } else { 0 };
        longest = longest.max(run);
    }
    "`".repeat(longest.max(2) + 1)
}

/// A word that a stranger wrote, as inline code.
pub(super) fn code(word: &str) -> String {
    let word: String = word.chars().filter(|c| !c.is_control() && *c != '`').take(80).collect();
    format!("`{}`", if word.trim().is_empty() { "?" } else { &word })
}

/// What a stranger wrote, as text without markup.
pub(super) fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars().map(|c| if c.is_control() { ' ' } else { c }) {
        if c.is_ascii_punctuation() {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

/// At most so many characters.
pub(super) fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

/// `14:05 UTC`.
fn time_of_day(at: Timestamp) -> String {
    let minutes = at.0.div_euclid(60_000).rem_euclid(24 * 60);
    format!("{:02}:{:02} UTC", minutes / 60, minutes % 60)
}

#[cfg(test)]
#[path = "pause_tests.rs"]
mod tests;
