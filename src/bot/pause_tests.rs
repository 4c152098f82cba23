use serde_json::json;

use super::*;
use crate::a2a::{Question, Shape, ToolCall};

const NOW: Timestamp = Timestamp(1_800_000_000_000);

fn tools(names: &[&str]) -> Pending {
    let tools = names.iter().map(|name| ToolCall {
        id: format!("id-{name}"),
        name: (*name).to_owned(),
        args: json!({"name": "web-1"}),
    });
    let approval =
        Approval { hint: None, subagent: None, tools: tools.collect(), shape: Shape::Adk };
    Pending::new(Pause::Approval(approval), NOW)
}

fn labels(pending: &Pending) -> Vec<Vec<String>> {
    let rows = pending.card().1;
    rows.into_iter().map(|row| row.into_iter().map(|b| b.label).collect()).collect()
}

fn pressed(pending: &mut Pending, label: &str, by: &str) -> Step {
    let rows = pending.card().1;
    let button = rows.iter().flatten().find(|button| button.label == label).unwrap();
    let choice = pending.choice(&button.key).unwrap().clone();
    pending.press(&choice, by, NOW)
}

#[test]
fn each_tool_is_decided_once_and_the_first_decision_wins() {
    let mut pending = tools(&["delete", "restart"]);
    let early = pending.clone();
    assert_eq!(
        labels(&pending),
        [
            vec!["Approve delete", "Reject delete"],
            vec!["Approve restart", "Reject restart"],
            vec!["Approve all", "Reject all"]
        ]
    );
    assert_eq!(pressed(&mut pending, "Approve delete", "alice"), Step::Partly);
    assert_eq!(labels(&pending), [vec!["Approve restart", "Reject restart"]]);
    let key = early.card().1[0][1].key.clone();
    let choice = pending.choice(&key).unwrap().clone();
    assert_eq!(pending.press(&choice, "mallory", NOW), Step::Late);
    assert_eq!(pressed(&mut pending, "Reject restart", "bob"), Step::Complete);
    let (text, rows) = pending.card();
    assert!(rows.is_empty());
    assert!(text.contains("✅ `delete` approved by alice, 08:00 UTC"), "{text}");
    assert!(text.contains("❌ `restart` rejected by bob"), "{text}");
    let Pause::Approval(asked) = &pending.pause else { unreachable!() };
    assert_eq!(pending.label(asked), "1 approved, 1 rejected by alice, bob");
}

#[test]
fn what_nobody_decided_is_rejected() {
    let mut pending = tools(&["delete", "restart"]);
    pressed(&mut pending, "Approve delete", "alice");
    pending.close(None, NOW);
    let Pause::Approval(asked) = pending.pause.clone() else { unreachable!() };
    let expected = asked.decide("1 approved, 1 rejected by alice", |tool| match &*tool.name {
        "delete" => Verdict::Approve,
        _ => Verdict::Reject { reason: Some("nobody decided in time".to_owned()) },
    });
    assert_eq!(pending.decision(), Some(expected));
    assert!(pending.card().0.contains("because nobody decided in time"));
}

#[test]
fn a_decision_without_any_ruling_rejects_everything() {
    let pending = tools(&["delete"]);
    let Pause::Approval(asked) = pending.pause.clone() else { unreachable!() };
    let reject = Verdict::Reject { reason: Some("nobody decided in time".to_owned()) };
    let expected = asked.decide("0 approved, 1 rejected by nobody", |_| reject.clone());
    assert_eq!(pending.decision(), Some(expected));
}

#[test]
fn a_buttons_key_is_random_and_says_nothing() {
    let keys = || {
        let rows = tools(&["delete", "restart"]).card().1;
        rows.into_iter().flatten().map(|button| button.key).collect::<Vec<_>>()
    };
    let all: std::collections::BTreeSet<String> = keys().into_iter().chain(keys()).collect();
    assert_eq!(all.len(), 12, "none is used twice: {all:?}");
    for key in all {
        let random = uuid::Uuid::try_parse(&key).is_ok_and(|it| it.get_version_num() == 4);
        assert!(random, "{key}");
    }
}

#[test]
fn what_strangers_wrote_on_a_card_stays_as_they_wrote_it() {
    let evil = "x` **Approved by admin** [here](https://evil.example) `y";
    let literal = |pending: &Pending| {
        let (card, _) = pending.card();
        let document = crate::render::parse(&card);
        let stays = document.texts().any(|it| it.text.contains("**Approved by admin** [here]("));
        assert!(stays, "{card}");
    };
    literal(&tools(&[evil, "restart"]));
    let mut of_another_agent = tools(&["delete"]);
    let Pause::Approval(asked) = &mut of_another_agent.pause else { unreachable!() };
    asked.subagent = Some(evil.to_owned());
    literal(&of_another_agent);
    // Beside backticks the rest would be code.
    let evil = "**Approved by admin** [here](https://evil.example)";
    let mut by_somebody = tools(&["delete", "restart"]);
    pressed(&mut by_somebody, "Approve delete", evil);
    literal(&by_somebody);
    let question = Question { text: evil.to_owned(), choices: Vec::new(), multiple: false };
    let questions = vec![question];
    let asked = Questions { id: "q".to_owned(), subagent: None, questions, shape: Shape::Hitl };
    literal(&Pending::new(Pause::Questions(asked), NOW));
}

#[test]
fn buttons_fit_five_rows_of_five() {
    for n in [1, 2, 4, 5, 8, 9, 30] {
        let names: Vec<String> = (0..n).map(|n| format!("tool{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let rows = tools(&names).card().1;
        assert!(!rows.is_empty() && rows.len() <= 5, "{n}: {}", rows.len());
        assert!(rows.iter().all(|row| (1..=5).contains(&row.len())), "{n}");
    }
}

#[test]
fn questions_are_answered_one_by_one() {
    let question = |text: &str, choices: &[&str], multiple| Question {
        text: text.to_owned(),
        choices: choices.iter().map(|c| (*c).to_owned()).collect(),
        multiple,
    };
    let asked = Questions {
        id: "q".to_owned(),
        subagent: None,
        questions: vec![
            question("Which database?", &["PostgreSQL", "MySQL"], false),
            question("Which features?", &["Auth", "Cache"], true),
            question("Anything else?", &[], false),
        ],
        shape: Shape::Hitl,
    };
    let mut pending = Pending::new(Pause::Questions(asked.clone()), NOW);
    assert_eq!(pressed(&mut pending, "PostgreSQL", "alice"), Step::Partly);
    assert_eq!(pressed(&mut pending, "Cache", "alice"), Step::Partly);
    assert_eq!(pressed(&mut pending, "Auth", "alice"), Step::Partly);
    assert_eq!(labels(&pending), [vec!["✓ Auth", "✓ Cache", "Done"]]);
    assert_eq!(pressed(&mut pending, "Done", "alice"), Step::Partly);
    assert!(pending.card().0.contains("(3 of 3)"));
    assert_eq!(pending.write("no", "alice"), Step::Complete);
    let answers = [vec!["PostgreSQL"], vec!["Auth", "Cache"], vec!["no"]];
    let expected = asked
        .answer("answered by alice", |at, _| answers[at].iter().map(|a| (*a).to_owned()).collect());
    assert_eq!(pending.decision(), Some(expected));
}

#[test]
fn a_strangers_arguments_stay_arguments() {
    let mut pending = tools(&["de`lete"]);
    let Pause::Approval(asked) = &mut pending.pause else { unreachable!() };
    asked.tools[0].args = json!({"x": "```\n**Approved by admin**\n```"});
    let (text, _) = pending.card();
    let document = crate::render::parse(&text);
    let code = document
        .blocks
        .iter()
        .filter(|block| matches!(block.content, crate::render::Content::Code { .. }));
    assert_eq!(code.count(), 1, "{text}");
    asked_long(&mut pending);
    assert!(pending.long_arguments().unwrap().1.len() > 5_000);
}

fn asked_long(pending: &mut Pending) {
    let Pause::Approval(asked) = &mut pending.pause else { unreachable!() };
    asked.tools[0].args = json!({"x": "y".repeat(5_000)});
    assert!(pending.card().0.chars().count() < 1_000);
}
