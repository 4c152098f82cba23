//! Every place where a secret can stand, and what an operator may want to happen to it.

use std::sync::Arc;

use secrecy::SecretString;

use super::*;
use crate::guard::{Guard, Rules};
use crate::model::{Button, ButtonStyle, CardPart, Mentions, Part, PlatformKind};
use crate::policy::Terms;
use crate::render::parse;
use crate::telemetry::OwnSecrets;

const OURS: &str = "xoxb-2345-quiet-Canary-Water";
const TOKEN: &str = "acme_abcdefghijkl";
const RULES: &str = "\
[[rules]]
id = 'acme'
regex = '''acme_[a-z]{12}'''
keywords = ['acme_']
[[rules]]
id = 'keys'
path = '''\\.p12$'''
";

fn guard() -> Guard {
    knowing(OwnSecrets::new(&[SecretString::from(OURS)]))
}

fn knowing(own: OwnSecrets) -> Guard {
    Guard::new(own, Arc::new(Rules::parse(RULES).unwrap()))
}

fn terms(secrets: Secrets) -> Terms {
    Terms { secrets, ..Terms::default() }
}

fn text(body: &str) -> Part {
    Part::Text(TextPart::new(body, body))
}

fn card(body: &str, label: &str) -> Part {
    let button =
        Button { key: "k".to_owned(), label: label.to_owned(), style: ButtonStyle::default() };
    Part::Card(CardPart { text: TextPart::new(body, body), rows: vec![vec![button]] })
}

fn file(name: &str, bytes: &[u8]) -> Part {
    let base64 = STANDARD.encode(bytes);
    Part::File(FilePart {
        name: name.to_owned(),
        mime: "text/plain".to_owned(),
        base64,
        held_to: None,
    })
}

/// All that anybody reads in a part.
fn read(part: &Part) -> String {
    let text = |text: &TextPart| format!("{}\n{}", text.body, text.plain);
    match part {
        Part::Text(part) => text(part),
        Part::Card(card) => {
            let labels = card.rows.iter().flatten().map(|button| button.label.as_str());
            format!("{}\n{}", text(&card.text), labels.collect::<String>())
        }
        Part::File(file) => {
            let bytes = STANDARD.decode(&file.base64).unwrap();
            format!("{}\n{}", file.name, String::from_utf8_lossy(&bytes))
        }
    }
}

/// A secret in each place of a finished message.
fn everywhere(secret: &str) -> Vec<(&'static str, Part)> {
    let says = format!("it is {secret} here");
    vec![
        ("a text", text(&says)),
        ("what is shown alone", Part::Text(TextPart::new("a link", &says))),
        ("a card", card(&says, "OK")),
        ("a button", card("Sure?", &says)),
        ("a file's name", file(&format!("{secret}.txt"), b"nothing")),
        ("a file", file("a.txt", says.as_bytes())),
    ]
}

#[test]
fn a_secret_is_crossed_out_wherever_it_stands() {
    for (place, part) in everywhere(TOKEN) {
        let mut parts = [part.clone()];
        let found =
            guard().parts(&mut parts, PlatformKind::Slack, &terms(Secrets::Redact)).unwrap();
        let after = read(&parts[0]);
        assert!(!after.contains(TOKEN), "{place}: {after}");
        assert!(after.contains(&"x".repeat(TOKEN.len())), "{place}: {after}");
        assert_eq!(after.len(), read(&part).len(), "{place}: it is no longer than it was");
        let filtered = Filtered { rule: "acme".to_owned(), treatment: Treatment::Redacted };
        assert_eq!(found.filtered, [filtered], "{place}");
        assert!(found.warnings[0].contains("was taken out"), "{place}: {found:?}");
    }
}

#[test]
fn a_message_with_a_secret_is_refused_where_the_operator_wants_that() {
    for (place, part) in everywhere(TOKEN) {
        let blocked = guard()
            .parts(&mut [part], PlatformKind::Slack, &terms(Secrets::Block))
            .expect_err(place);
        let filtered = Filtered { rule: "acme".to_owned(), treatment: Treatment::Blocked };
        assert_eq!(blocked.filtered, [filtered], "{place}");
        assert!(!blocked.to_string().contains(TOKEN), "{blocked}");
    }
}

#[test]
fn a_secret_is_told_about_and_left_where_the_operator_wants_that() {
    for (place, part) in everywhere(TOKEN) {
        let mut parts = [part.clone()];
        let found = guard().parts(&mut parts, PlatformKind::Slack, &terms(Secrets::Flag)).unwrap();
        assert_eq!(parts, [part], "{place}");
        let filtered = Filtered { rule: "acme".to_owned(), treatment: Treatment::Flagged };
        assert_eq!(found.filtered, [filtered], "{place}");
        assert!(found.warnings[0].contains("was sent all the same"), "{place}: {found:?}");
    }
}

#[test]
fn a_secret_of_our_own_is_refused_wherever_it_stands_and_whatever_the_operator_wants() {
    for secrets in [Secrets::Redact, Secrets::Block, Secrets::Flag] {
        let unseen = Part::Text(TextPart::new(format!("<https://x.example/{OURS}|here>"), "here"));
        for (place, part) in everywhere(OURS).into_iter().chain([("an address", unseen)]) {
            let blocked =
                guard().parts(&mut [part], PlatformKind::Slack, &terms(secrets)).expect_err(place);
            assert_eq!(blocked.filtered[0].rule, OWN, "{place}");
            assert_eq!(blocked.filtered[0].treatment, Treatment::Blocked, "{place}");
        }
        for markdown in [
            format!("it is {OURS}"),
            format!("[here](https://x.example/?a={OURS})"),
            format!("```{OURS}\ncode\n```"),
            format!("| a |\n|-|\n| {OURS} |"),
        ] {
            let mut document = parse(&markdown);
            let blocked = guard()
                .document(&mut document, PlatformKind::Slack, &terms(secrets))
                .expect_err(&markdown);
            assert_eq!(blocked.filtered[0].rule, OWN, "{markdown}");
        }
        assert!(guard().words(OURS, PlatformKind::Slack, &terms(secrets)).is_err());
    }
}

#[test]
fn in_a_document_the_rule_stands_where_the_secret_stood() {
    for (markdown, words, link) in [
        (format!("it is **{TOKEN}**, see"), "it is [redacted:acme], see", None),
        (format!("```\nkey {TOKEN}\n```"), "key [redacted:acme]", None),
        (
            format!("[here](https://x.example/?a={TOKEN})"),
            "here",
            Some("https://x.example/?a=redacted-acme"),
        ),
    ] {
        let mut document = parse(&markdown);
        let found =
            guard().document(&mut document, PlatformKind::Slack, &Terms::default()).unwrap();
        assert_eq!(found.filtered.len(), 1, "{markdown}");
        let text = document.texts().next().unwrap();
        assert_eq!(text.text, words, "{markdown}");
        let leads = text.spans.iter().find_map(|span| match &span.style {
            Style::Link(url) => Some(url.as_str()),
            _ => None,
        });
        assert_eq!(leads, link, "{markdown}");
    }
}

#[test]
fn a_threads_name_is_looked_at_like_a_text_and_calls_nobody() {
    let everybody = Mentions { broadcast: true, groups: true, people: true };
    let open = Terms { mentions: everybody, ..Terms::default() };
    let name = format!("{TOKEN} @every\u{ad}one p\u{430}ypal.example");
    let (name, found) = guard().words(&name, PlatformKind::Discord, &open).unwrap();
    assert_eq!(name, "[redacted:acme] @\u{200b}everyone xn--pypal-4ve.example");
    assert_eq!(found.filtered.len(), 4, "{found:?}");
    assert!(guard().words(TOKEN, PlatformKind::Slack, &terms(Secrets::Block)).is_err());
}

#[test]
fn nobody_hides_in_a_name_or_a_label() {
    for part in [card("Sure?", "de\u{202e}ny"), file("a\u{200b}b.txt", b"x")] {
        let mut parts = [part];
        let found = guard().parts(&mut parts, PlatformKind::Slack, &Terms::default()).unwrap();
        assert!(!read(&parts[0]).contains(['\u{202e}', '\u{200b}']), "{parts:?}");
        assert_eq!(found.filtered[0].rule, "characters");
    }
}

#[test]
fn what_cannot_be_crossed_out_is_refused_or_told_about() {
    let binary = [b"\xff\xfe".as_slice(), TOKEN.as_bytes()].concat();
    for part in [file("client.p12", b"x"), file("core.bin", &binary)] {
        for secrets in [Secrets::Redact, Secrets::Block] {
            let mut parts = [part.clone()];
            assert!(
                guard().parts(&mut parts, PlatformKind::Slack, &terms(secrets)).is_err(),
                "{part:?}"
            );
        }
        let mut parts = [part.clone()];
        let found = guard().parts(&mut parts, PlatformKind::Slack, &terms(Secrets::Flag)).unwrap();
        assert_eq!(found.filtered.len(), 1, "{part:?}");
        assert_eq!(parts, [part]);
    }
    let mut ours = [file("core.bin", &[b"\xff".as_slice(), OURS.as_bytes()].concat())];
    assert!(guard().parts(&mut ours, PlatformKind::Slack, &terms(Secrets::Flag)).is_err());
}

#[test]
fn a_secret_that_became_known_later_is_kept_back_and_the_old_one_too() {
    let own = OwnSecrets::new(&[SecretString::from(OURS)]);
    let guard = knowing(own.clone());
    let later = "a-password-of-tomorrow";
    let sent = |words: &str| guard.words(words, PlatformKind::Slack, &Terms::default()).is_ok();
    assert!(sent(later));
    own.set(&[SecretString::from(later)]);
    assert!(!sent(later) && !sent(OURS));
    own.set(&[]);
    assert!(!sent(later) && !sent(OURS));
}
