//! Where links lead: a list of domains that became shorter stops what was accepted under a longer one, and nothing else.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;

use super::mentions::platform;
use super::*;
use crate::guard::Guard;
use crate::model::FilePart;
use crate::policy::Terms;
use crate::render::{parse, whole};

fn terms(domains: Option<&[&str]>) -> Terms {
    let link_domains = domains.map(|list| list.iter().map(|it| (*it).to_owned()).collect());
    Terms { link_domains, ..Terms::default() }
}

fn sent(markdown: &str, platform: &dyn Platform, terms: &Terms) -> Option<Vec<Part>> {
    let (guard, mut document) = (Guard::default(), parse(markdown));
    guard.document(&mut document, platform.kind(), terms).unwrap();
    let mut parts = platform.render(&document).ok()?;
    guard.parts(&mut parts, platform.kind(), terms).unwrap();
    Some(parts)
}

/// The same as a file.
fn attached(markdown: &str, kind: PlatformKind, terms: &Terms) -> Part {
    let (guard, mut document) = (Guard::default(), parse(markdown));
    guard.document(&mut document, kind, terms).unwrap();
    let base64 = STANDARD.encode(whole(&document));
    let (name, mime) = ("answer.md".to_owned(), "text/markdown".to_owned());
    let mut part = [Part::File(FilePart { name, mime, base64, held_to: Some(String::new()) })];
    guard.parts(&mut part, kind, terms).unwrap();
    let [part] = part;
    part
}

fn pass(parts: &[Part], kind: PlatformKind, terms: &Terms) -> bool {
    let guard = Guard::default();
    parts.iter().all(|part| guard.still_passes(part, kind, terms))
}

#[test]
fn a_finished_link_passes_exactly_where_its_domain_is_listed() {
    let links = [
        "https://bad.example/a_b?x=1&y=(2)",
        "see **[the *page*](https://bad.example/x_y)**.",
        "bad.example/path",
        "write to ops@bad.example",
        "<mailto:ops@bad.example>",
        "[the log](HTTPS://bad.example/x) and [another](hTTp://bad.example)",
        "[write](MAILTO:ops@bad.example)",
        "- a\n- > [x](https://sub.bad.example) and <https://ok.example>",
        "| a |\n|-|\n| bad.example |\n\n[t](https://bad.example)",
        "`https://ok.example` ![image](https://bad.example/i.png)",
        "[a][1]\n\n[1]: https://bad.example",
        "<@U1> <#C1> &amp; https://ok.example/&amp;@bad.example x.bad.example",
        "# https://bad.example",
    ];
    let harmless = [
        "nothing at all, 1.5 and e.g. this, `bad.example`",
        "~~~sh\ncurl https://bad.example\n~~~",
        "[x](tg://user?id=5) [y](javascript:bad.example) 5 < 7 & a > b",
        "https://ok.example/bad.example and [ok.example](https://www.ok.example)",
    ];
    for kind in PlatformKind::ALL {
        let platform = platform(kind);
        let (free, listed) = (terms(None), terms(Some(&["ok.example", "bad.example"])));
        let shorter = terms(Some(&["ok.example"]));
        for (text, leads) in
            links.iter().map(|text| (text, true)).chain(harmless.iter().map(|text| (text, false)))
        {
            for then in [&free, &listed] {
                let mut parts = sent(text, &*platform, then).unwrap();
                let file = attached(text, kind, then);
                let alone = [file.clone()];
                assert_eq!(pass(&alone, kind, &shorter), !leads, "{kind}: {text}");
                parts.push(file);
                assert!(
                    pass(&parts, kind, &free) && pass(&parts, kind, &listed),
                    "{kind}: {parts:?}"
                );
                assert_eq!(pass(&parts, kind, &shorter), !leads, "{kind}: {parts:?}");
            }
            let mut parts = sent(text, &*platform, &shorter).unwrap();
            parts.push(attached(text, kind, &shorter));
            assert!(pass(&parts, kind, &shorter), "{kind}: {parts:?}");
        }
    }
}

/// What an agent attaches is its own, and nobody reads Markdown in it.
#[test]
fn a_file_that_was_not_held_to_a_list_is_held_to_none() {
    let Part::File(file) = attached("https://bad.example", PlatformKind::Slack, &terms(None))
    else {
        panic!("it is a file");
    };
    let file = Part::File(FilePart { held_to: None, ..file });
    assert!(pass(&[file], PlatformKind::Slack, &terms(Some(&["ok.example"]))));
}

fn fragment() -> impl Strategy<Value = String> {
    const PIECES: [&str; 50] = [
        "https://bad.example",
        "https://ok.example",
        "https://ok.example/a_b*c~d",
        "http://",
        "bad.example",
        "ok.example",
        "ok.example.",
        "www.bad.example",
        "x@bad.example",
        "1.2.3.4",
        "[a](https://bad.example)",
        "[b](https://ok.example)",
        "[bad.example](https://ok.example)",
        "[https://ok.example](https://bad.example)",
        "<https://bad.example/?a=1&b=2>",
        "mailto:",
        "ftp://",
        "tg://user?id=5",
        "[c](tg://user?id=5)",
        "`bad.example`",
        "`` a`b.example ``",
        "~~~\nbad.example\n~~~\n",
        "**",
        "*",
        "_",
        "~~",
        "`",
        "[",
        "](",
        ")",
        "<",
        ">",
        "/",
        ".",
        "@",
        "@everyone",
        "example",
        "\\",
        "&",
        "&lt;",
        "&period;",
        " ",
        "\n",
        "\n\n",
        "> ",
        "- ",
        "1. ",
        "| a |\n|-|\n| ",
        "é",
        "\u{200b}",
    ];
    prop_oneof![
        30 => proptest::sample::select(PIECES.as_slice()).prop_map(str::to_owned),
        1 => (0..2_100_usize).prop_map(|n| "x ".repeat(n)),
        1 => any::<char>().prop_map(String::from),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_passed_passes_again_while_the_list_is_the_same(
        fragments in proptest::collection::vec(fragment(), 0..40),
        listed in any::<bool>(),
    ) {
        let terms = terms(listed.then_some(&["ok.example"]));
        for kind in PlatformKind::ALL {
            let Some(parts) = sent(&fragments.concat(), &*platform(kind), &terms) else { continue };
            prop_assert!(pass(&parts, kind, &terms), "{}: {:?}", kind, parts);
        }
    }

    #[test]
    fn a_name_that_passed_passes_again_while_the_list_is_the_same(
        fragments in proptest::collection::vec(prop_oneof![
            20 => fragment(),
            1 => Just(format!("ghp_{}", "16C7e42F292c6912E7710c838347Ae178B4a")),
        ], 0..40),
        listed in any::<bool>(),
    ) {
        let (guard, terms) = (Guard::default(), terms(listed.then_some(&["ok.example"])));
        for kind in PlatformKind::ALL {
            let (name, _) = guard.words(&fragments.concat(), kind, &terms).unwrap();
            prop_assert!(guard.words_still_pass(&name, &terms), "{}: {:?}", kind, name);
        }
    }
}
