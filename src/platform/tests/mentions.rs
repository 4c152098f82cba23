//! Which mentions call people: on the whole way from what an agent writes to the part that is sent.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;
use crate::guard::{Guard, has_active_mention};
use crate::model::{Mentions, TextPart};
use crate::policy::Terms;
use crate::render::parse;

const ALL: Mentions = Mentions { broadcast: true, groups: true, people: true };
const BROADCAST: Mentions = Mentions { broadcast: true, ..Mentions::NONE };
const GROUPS: Mentions = Mentions { groups: true, ..Mentions::NONE };
const PEOPLE: Mentions = Mentions { people: true, ..Mentions::NONE };

fn every_choice() -> impl Iterator<Item = Mentions> {
    (0..8).map(|n| Mentions { broadcast: n & 1 > 0, groups: n & 2 > 0, people: n & 4 > 0 })
}

fn terms(mentions: Mentions) -> Terms {
    Terms { mentions, ..Terms::default() }
}

pub(super) fn platform(kind: PlatformKind) -> Arc<dyn Platform> {
    static MADE: LazyLock<Vec<Arc<dyn Platform>>> = LazyLock::new(|| {
        platforms("http://127.0.0.1:9").into_iter().map(|(platform, _)| platform).collect()
    });
    Arc::clone(MADE.iter().find(|platform| platform.kind() == kind).unwrap())
}

/// What becomes of a text, and what its author is told.
fn sent(
    markdown: &str,
    platform: &dyn Platform,
    permitted: Mentions,
) -> Result<(Vec<Part>, Vec<String>), RenderError> {
    let (guard, terms) = (Guard::default(), terms(permitted));
    let mut document = parse(markdown);
    let mut findings = guard.document(&mut document, platform.kind(), &terms).unwrap();
    let mut parts = platform.render(&document)?;
    findings.add(guard.parts(&mut parts, platform.kind(), &terms).unwrap());
    Ok((parts, findings.warnings))
}

fn texts(parts: &[Part]) -> Vec<&TextPart> {
    parts.iter().filter_map(Part::text).collect()
}

const BROADCAST_TOLD: &str = "a broadcast mention (@here) was neutralised";
const GROUP_TOLD: &str = "a mention of a group or role was neutralised";
const PERSON_TOLD: &str = "a mention of a person was neutralised";
const USER_TOLD: &str = "a link to a Telegram user (tg://user) was neutralised";

/// Platform, what is let through, what an agent writes, what leaves, what calls, what is told.
type Case = (PlatformKind, Mentions, &'static str, &'static str, Mentions, &'static [&'static str]);

#[test]
fn what_is_let_through_calls_and_nothing_else_does() {
    use PlatformKind::{Discord, Slack, Telegram};
    let cases: [Case; 33] = [
        // Slack takes `<!here>` alone, and a line that begins so would be read as HTML.
        (Slack, ALL, "@here **down**", "\u{200b}<!here> **down**", BROADCAST, &[]),
        (Slack, ALL, "x <!here|all> @channel", "x <!here> <!channel>", BROADCAST, &[]),
        (Slack, ALL, "**@everyone**, now", "**\u{200b}<!everyone>\u{200b}**, now", BROADCAST, &[]),
        (Slack, ALL, "# @here", "# \u{200b}<!here>", BROADCAST, &[]),
        (Slack, ALL, "- a <!subteam^S0OPS|ops>", "- a <!subteam^S0OPS>", GROUPS, &[]),
        (Slack, ALL, "ask <@U0ALICE> or <@W1|w>", "ask <@U0ALICE> or <@W1>", PEOPLE, &[]),
        (Slack, PEOPLE, "<@U1> @here", "<@U1> @\u{200b}here", PEOPLE, &[BROADCAST_TOLD]),
        (Slack, GROUPS, "x <!here>", "x &lt;!\u{200b}here&gt;", Mentions::NONE, &[BROADCAST_TOLD]),
        (Slack, BROADCAST, "<@U1>", "&lt;@\u{200b}U1&gt;", Mentions::NONE, &[PERSON_TOLD]),
        // Markdown takes this for a mail address.
        (
            Slack,
            PEOPLE,
            "a <!subteam^S1|@here>",
            "a [!subteam^S1|@\u{200b}here](mailto:!subteam%5ES1%7C@here)",
            Mentions::NONE,
            &[BROADCAST_TOLD],
        ),
        // Not as people write them: in code, in a link, in a table, in pieces, in a longer word, of no such name.
        (Slack, ALL, "`@here` @here", "`@\u{200b}here` <!here>", BROADCAST, &[BROADCAST_TOLD]),
        (
            Slack,
            ALL,
            "~~~\n<!here>\n~~~",
            "```\n<!\u{200b}here>\n```",
            Mentions::NONE,
            &[BROADCAST_TOLD],
        ),
        (
            Slack,
            ALL,
            "| @here |\n|-|\n",
            "| @\u{200b}here |\n| --- |",
            Mentions::NONE,
            &[BROADCAST_TOLD],
        ),
        (
            Slack,
            ALL,
            "[@here](https://x.example)",
            "[@\u{200b}here](https://x.example)",
            Mentions::NONE,
            &[BROADCAST_TOLD],
        ),
        (Slack, ALL, "@he**re**", "@\u{200b}he**re**", Mentions::NONE, &[BROADCAST_TOLD]),
        (Slack, ALL, "@Here", "@\u{200b}Here", Mentions::NONE, &[BROADCAST_TOLD]),
        (Slack, ALL, "x-@here/x", "x-@\u{200b}here/x", Mentions::NONE, &[BROADCAST_TOLD]),
        (Slack, ALL, "<@alice>", "&lt;@\u{200b}alice&gt;", Mentions::NONE, &[PERSON_TOLD]),
        (Slack, ALL, "mail ops@here.example", "mail ops@here.example", Mentions::NONE, &[]),
        // Discord
        (Discord, ALL, "@here: **x**", "@here: **x**", BROADCAST, &[]),
        (
            Discord,
            ALL,
            "<@&5> <@6> <@!7>",
            "<@&5> <@6> <@7>",
            Mentions { broadcast: false, ..ALL },
            &[],
        ),
        (Discord, GROUPS, "<@&5> <@6>", "<@&5> \\<@\u{200b}6>", GROUPS, &[PERSON_TOLD]),
        (Discord, PEOPLE, "<@&5> <@6>", "\\<@\u{200b}&5> <@6>", PEOPLE, &[GROUP_TOLD]),
        (Discord, ALL, "x@here", "x@\u{200b}here", Mentions::NONE, &[BROADCAST_TOLD]),
        (Discord, ALL, "`<@6>`", "`<@\u{200b}6>`", Mentions::NONE, &[PERSON_TOLD]),
        (Discord, ALL, "<@6|x>", "\\<@\u{200b}6\\|x>", Mentions::NONE, &[PERSON_TOLD]),
        (
            Discord,
            ALL,
            "https://x.example/@here",
            "https://x.example/@\u{200b}here (<https://x.example/%40here>)",
            Mentions::NONE,
            &[BROADCAST_TOLD],
        ),
        // Telegram: links alone.
        (
            Telegram,
            PEOPLE,
            "[Al](tg://user?id=7)",
            "<a href=\"tg://user?id=7\">Al</a>",
            PEOPLE,
            &[],
        ),
        (
            Telegram,
            PEOPLE,
            "<tg://user?id=7>",
            "<a href=\"tg://user?id=7\">tg:\u{200b}//user?id=7</a>",
            PEOPLE,
            &[USER_TOLD],
        ),
        (Telegram, GROUPS, "[Al](tg://user?id=7)", "Al", Mentions::NONE, &[USER_TOLD]),
        (Telegram, ALL, "[Al](tg://user?id=7x) @here", "Al @here", Mentions::NONE, &[]),
        (Slack, ALL, "[Al](tg://user?id=7)", "Al", Mentions::NONE, &[]),
        (Discord, ALL, "[Al](tg://user?id=7)", "Al", Mentions::NONE, &[]),
    ];
    let mut wrong = Vec::new();
    for (kind, permitted, markdown, body, calls, told) in cases {
        let (parts, warnings) = sent(markdown, &*platform(kind), permitted).unwrap();
        let text = texts(&parts)[0];
        let got = (text.body.as_str(), text.mentions, warnings);
        let wanted = (body, calls, told.iter().map(ToString::to_string).collect::<Vec<_>>());
        if got != wanted {
            wrong.push(format!("{kind}, {markdown}: {got:?} is not {wanted:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_notification_names_them_as_the_message_does() {
    let (parts, _) =
        sent("@here ask <@U0ALICE> `<@U0BOB>`", &*platform(PlatformKind::Slack), ALL).unwrap();
    assert_eq!(texts(&parts)[0].plain, "<!here> ask <@U0ALICE> &lt;@\u{200b}U0BOB&gt;");
    for before in 3_870..3_905 {
        let text = format!("{} <!subteam^S0123456789> and more", "x".repeat(before));
        let (parts, _) = sent(&text, &*platform(PlatformKind::Slack), ALL).unwrap();
        let plain = &texts(&parts)[0].plain;
        assert!(plain.chars().count() <= 3_900);
        assert_eq!(plain.matches('<').count(), plain.matches("<!subteam^S0123456789>").count());
    }
}

#[test]
fn a_mention_is_not_cut() {
    for (kind, limit, markdown, mention) in [
        (PlatformKind::Slack, 11_000, "@channel", "<!channel>"),
        (PlatformKind::Slack, 11_000, "**<@U0123456789>**", "<@U0123456789>"),
        (PlatformKind::Discord, 1_950, "<@&123456789012345678>", "<@&123456789012345678>"),
        (PlatformKind::Discord, 1_950, "> _@everyone_", "@everyone"),
    ] {
        let platform = platform(kind);
        for before in limit - 40..limit + 5 {
            let (parts, warnings) =
                sent(&format!("{}-\n{markdown}, so", "x".repeat(before)), &*platform, ALL).unwrap();
            let whole: usize =
                texts(&parts).iter().map(|part| part.body.matches(mention).count()).sum();
            assert_eq!(whole, 1, "{kind} {before}: {parts:?}");
            assert!(warnings.is_empty(), "{warnings:?}");
            let calling = texts(&parts).iter().filter(|text| !text.mentions.is_none()).count();
            assert_eq!(calling, 1, "the other part calls nobody");
        }
    }
}

#[test]
fn a_part_that_calls_nobody_is_stored_as_it_always_was() {
    let stored = r#"{"kind":"text","body":"a","plain":"a"}"#;
    let part: Part = serde_json::from_str(stored).unwrap();
    assert_eq!(serde_json::to_string(&part).unwrap(), stored);
    let calls = TextPart { mentions: BROADCAST, ..TextPart::new("@here", "@here") };
    let stored = r#"{"kind":"text","body":"@here","plain":"@here","mentions":{"broadcast":true}}"#;
    assert_eq!(serde_json::to_string(&Part::Text(calls.clone())).unwrap(), stored);
    assert_eq!(serde_json::from_str::<Part>(stored).unwrap(), Part::Text(calls));
}

#[test]
fn a_part_that_says_more_than_is_in_it_does_not_pass() {
    let guard = Guard::default();
    let part = Part::Text(TextPart { mentions: ALL, ..TextPart::new("calm", "calm") });
    assert!(!guard.still_passes(&part, PlatformKind::Discord, &terms(Mentions::NONE)));
    let part = Part::Text(TextPart::new("@everyone", "@everyone"));
    assert!(!guard.still_passes(&part, PlatformKind::Discord, &terms(Mentions::NONE)));
    assert!(!guard.still_passes(&part, PlatformKind::Discord, &terms(ALL)), "nobody asked");
}

#[test]
fn nobody_is_called_by_a_label_or_a_name() {
    for kind in PlatformKind::ALL {
        let text = "@everyone <!here> <@U0ALICE> <@5> tg://user?id=5";
        let (words, _) = Guard::default().words(text, kind, &terms(ALL)).unwrap();
        assert!(!has_active_mention(&words, kind), "{words}");
    }
}

/// Which kinds a platform would see at once in a text, without any tricks.
fn plainly(text: &str, kind: PlatformKind) -> Mentions {
    let follows = |marker: &str, test: fn(char) -> bool| {
        text.match_indices(marker)
            .any(|(at, _)| text.get(at + marker.len()..).unwrap().chars().next().is_some_and(test))
    };
    match kind {
        PlatformKind::Slack => Mentions {
            broadcast: ["<!here>", "<!channel>", "<!everyone>"].iter().any(|m| text.contains(m)),
            groups: text.contains("<!subteam^S"),
            people: follows("<@", |c| c.is_ascii_alphanumeric()),
        },
        PlatformKind::Discord => Mentions {
            broadcast: text.contains("@everyone") || text.contains("@here"),
            groups: follows("<@&", |c| c.is_ascii_digit()),
            people: follows("<@", |c| c == '!' || c.is_ascii_digit()),
        },
        PlatformKind::Telegram => Mentions { people: text.contains("tg://user"), ..Mentions::NONE },
    }
}

const fn within(one: Mentions, other: Mentions) -> bool {
    (other.broadcast || !one.broadcast)
        && (other.groups || !one.groups)
        && (other.people || !one.people)
}

/// Mentions, what hides them, and what stands around them.
fn fragment() -> impl Strategy<Value = String> {
    const PIECES: [&str; 56] = [
        "@here",
        "@channel",
        "@everyone",
        "<!here>",
        "<!everyone|all>",
        "<!subteam^S0OPS>",
        "<!subteam^S1|@here>",
        "<@U0ALICE>",
        "<@U1|x>",
        "<@W",
        "<@5>",
        "<@!6>",
        "<@&7>",
        "[a](tg://user?id=5)",
        "<tg://user?id=6>",
        "tg://user?id=7",
        "tg:",
        "//user",
        "@",
        "<",
        ">",
        "!",
        "&",
        "|",
        "here",
        "U0ALICE",
        "5",
        "&lt;",
        "&gt;",
        "&amp;",
        "&#64;",
        "&commat;",
        "&#x40;",
        "#64;",
        "lt;",
        "&excl;",
        "&colon;",
        "\\",
        "\\@",
        "`",
        "``",
        "~~~\n",
        "**",
        "*",
        "~~",
        " ",
        "\n",
        "\n\n",
        "> ",
        "- ",
        "# ",
        "|a|\n|-|\n|",
        "[",
        "](https://x.example/@here)",
        "\u{200b}",
        "\u{301}",
    ];
    prop_oneof![
        30 => proptest::sample::select(PIECES.as_slice()).prop_map(str::to_owned),
        1 => (0..2_100_usize).prop_map(|n| "x".repeat(n)),
        1 => any::<char>().prop_map(String::from),
    ]
}

fn any_mentions() -> impl Strategy<Value = Mentions> {
    proptest::sample::select(every_choice().collect::<Vec<_>>())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn what_passed_passes_again_exactly_while_its_mentions_are_permitted(
        fragments in proptest::collection::vec(fragment(), 0..40),
        permitted in any_mentions(),
    ) {
        let markdown = fragments.concat();
        let guard = Guard::default();
        for kind in PlatformKind::ALL {
            let Ok((parts, _)) = sent(&markdown, &*platform(kind), permitted) else { continue };
            let mut again = parts.clone();
            let told = guard.parts(&mut again, kind, &terms(permitted)).unwrap();
            prop_assert_eq!(&again, &parts, "{} {:?}", kind, permitted);
            prop_assert!(told.warnings.is_empty(), "{:?}", told);
            for part in &parts {
                let text = part.text().unwrap();
                for written in [&text.body, &text.plain] {
                    let seen = plainly(written, kind);
                    prop_assert!(within(seen, text.mentions), "{} {:?}: {}", kind, permitted, written);
                    if permitted.is_none() {
                        prop_assert!(!has_active_mention(written, kind), "{}: {}", kind, written);
                    }
                }
                prop_assert!(within(text.mentions, permitted));
            }
            let Some(part) = parts.last() else { continue };
            let called = part.text().unwrap().mentions;
            for now in every_choice() {
                prop_assert_eq!(
                    guard.still_passes(part, kind, &terms(now)),
                    within(called, now),
                    "{} {:?} {:?}: {:?}", kind, permitted, now, part
                );
            }
        }
    }

    #[test]
    fn any_finished_part_is_harmless_after_one_look(
        fragments in proptest::collection::vec(fragment(), 0..40),
        permitted in any_mentions(),
    ) {
        let text = fragments.concat();
        let guard = Guard::default();
        for kind in PlatformKind::ALL {
            let mut parts = [Part::Text(TextPart::new(text.clone(), text.clone()))];
            guard.parts(&mut parts, kind, &terms(permitted)).unwrap();
            let body = &parts[0].text().unwrap().body;
            prop_assert!(within(plainly(body, kind), permitted), "{}: {}", kind, body);
            prop_assert!(guard.still_passes(&parts[0], kind, &terms(permitted)), "{}: {}", kind, body);
            prop_assert!(body.chars().count() <= text.chars().count());
        }
    }
}
