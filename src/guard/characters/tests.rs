use proptest::prelude::*;

use super::*;
use crate::render::samples::any_text;
use crate::render::{Block, Span, parse};

fn cleaned(markdown: &str) -> (Document, Vec<String>) {
    let mut document = parse(markdown);
    let warnings = clean(&mut document);
    (document, warnings)
}

/// Ordinary text in which such characters have their place, or which is near to what has none.
const ORDINARY: &[(&str, &str)] = &[
    ("Arabic", "السلام عليكم، كيف حالك؟ صدر التقرير في عام ١٤٤٥ ه\u{200d}."),
    ("Hebrew", "שלום עולם, בְּרֵאשִׁית בָּרָא אֱלֹהִים. יְרוּשָׁלַ\u{34f}ִם"),
    (
        "Persian",
        "می\u{200c}خواهم کتاب\u{200c}ها و خانه\u{200c}ای را ببینم؛ دانشجو\u{200c}ها نمی\u{200c}آیند.",
    ),
    ("Urdu", "یہ ایک اچھا دن ہے۔"),
    ("Hindi", "क्\u{200d}षत्रिय और पक्\u{200d}का शब्द, र\u{94d}\u{200c}ट; नमस्ते दुनिया"),
    ("Bengali", "র\u{200d}\u{9cd}যাব এবং উদ্\u{200c}যাপন"),
    ("Malayalam", "അവന\u{d4d}\u{200d} വന്നു, നന്‍മ"),
    ("Sinhala", "ශ\u{dca}\u{200d}රී ලංකාව"),
    ("Thai", "สวัสดีชาวโลก น้ำท่วมที่กรุงเทพฯ"),
    ("Khmer", "ភាសា\u{200b}ខ្មែរ\u{200b}ជា\u{200b}ភាសា"),
    ("Burmese", "မြန်မာဘာသာ\u{200b}စကား"),
    ("Mongolian", "ᠬᠠᠷ\u{180e}ᠠ ᠮᠣᠩᠭᠣᠯ ᠪᠢᠴᠢᠭ\u{180b}"),
    ("Chinese", "葛\u{e0100}飾区的“正常”状态，１００％。"),
    ("Japanese", "辻\u{fe00}さん、今日は。ﾊﾟｰﾃｨｰ"),
    ("Korean", "안녕하세요, 세계 여러분"),
    ("Vietnamese", "Tiếng Việt có dấu: e\u{301} o\u{308}\u{323}"),
    ("Latin", "naïve façade — “quoted” … 50 € ≨\u{fe00} x\u{a0}y"),
    ("Braille", "\u{2817}\u{2800}\u{2815}"),
    (
        "families",
        "👩\u{200d}👩\u{200d}👧 👨🏽\u{200d}⚕\u{fe0f} 🏳\u{fe0f}\u{200d}🌈 👁\u{fe0f}\u{200d}🗨\u{fe0f} ❤\u{fe0f}\u{200d}🔥 🧑🏻\u{200d}🤝\u{200d}🧑🏿",
    ),
    (
        "flags",
        "🇩🇪🇫🇷 🏴\u{200d}☠\u{fe0f} 🏴\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f}🏴\u{e0067}\u{e0062}\u{e0073}\u{e0063}\u{e0074}\u{e007f}",
    ),
    ("keycaps", "1\u{fe0f}\u{20e3} #\u{fe0f}\u{20e3} ☑\u{fe0f} ✔\u{fe0e} ©\u{fe0f} ↔\u{fe0f}"),
];

#[test]
fn ordinary_text_of_every_language_stays_as_it_is() {
    for (language, text) in ORDINARY {
        for markdown in [
            (*text).to_owned(),
            format!("# {text}"),
            format!("```\n{text}\n```"),
            format!("| {text} |\n|-|\n| `{text}` |"),
            format!("[{text}](https://x.example/{})", text.replace(' ', "_")),
        ] {
            let mut document = parse(&markdown);
            let before = document.clone();
            assert_eq!(clean(&mut document), Vec::<String>::new(), "{language}: {markdown}");
            assert_eq!(document, before, "{language}: {markdown}");
        }
    }
}

#[test]
fn each_kind_is_removed_and_told_once() {
    let direction = Kind::Direction.warning();
    let invisible = Kind::Invisible.warning();
    let tag = Kind::Tag.warning();
    let variation = Kind::Variation.warning();
    let control = Kind::Control.warning();
    for (text, left, warnings) in [
        ("a\u{202e}fdp.exe\u{202c} \u{2066}b\u{2069}", "afdp.exe b", vec![direction]),
        ("\u{200e}a\u{200f}b\u{61c}c\u{202a}", "abc", vec![direction]),
        ("pass\u{200b}word \u{200c}a\u{200d}b", "password ab", vec![invisible]),
        (
            "a\u{2060}\u{2061}\u{2064}\u{feff}\u{ad}b\u{115f}\u{1160}\u{3164}\u{ffa0}\u{180e}c",
            "abc",
            vec![invisible],
        ),
        ("a\u{fff9}b\u{fffa}c\u{fffb}", "abc", vec![invisible]),
        ("a\u{17b4}b\u{206a}c\u{1d173}d\u{34f}e", "abcde", vec![invisible]),
        ("hi\u{e0068}\u{e0069}\u{e0001}", "hi", vec![tag]),
        ("🏴\u{e0068}\u{e0069}\u{e007f}", "🏴", vec![tag]),
        ("🏴\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}", "🏴", vec![tag]),
        ("😀\u{fe0f}\u{fe01}\u{e0101}\u{e01ef}", "😀\u{fe0f}", vec![variation]),
        ("a\u{fe0f}b\u{e0100}1\u{fe0f}2", "ab12", vec![variation]),
        ("葛\u{e0100}\u{e0101}", "葛\u{e0100}", vec![variation]),
        ("a\u{fdd0}b\u{1fffe}c\u{ffff}", "abc", vec![control]),
        ("👩\u{200d}\u{200d}👩", "👩\u{200d}👩", vec![invisible]),
        ("می\u{200c}\u{200c}خ \u{200c}", "می\u{200c}خ", vec![invisible]),
        ("a\u{e0041}\u{202e}\u{200b}\u{202d}", "a", vec![tag, direction, invisible]),
        ("\\\u{200b}\n\u{200b}two\u{200b} \u{200b}", "\\\ntwo", vec![invisible]),
    ] {
        let (document, told) = cleaned(text);
        assert_eq!(crate::render::judge::words(&document), left, "{text:?}");
        assert_eq!(told, warnings, "{text:?}");
    }
}

#[test]
fn everything_in_a_document_is_cleaned() {
    let document = |x: &str| {
        let markdown = format!(
            "# he{x}ading **bo{x}ld**\n\n> - te{x}xt `co{x}de` [la{x}bel](https://x.example/a{x}b)\n\n\
             ![al{x}t](https://x.example/c.png) <https://x.example/d{x}e> https://x.example/f{x}g.\n\n\
             ```\nfn ma{x}in()\n```\n\n| he{x}ad |\n|-|\n| ce{x}ll |"
        );
        parse(&markdown)
    };
    for x in ["\u{200b}", "\u{202e}", "\u{e0041}\u{e0042}", "\u{feff}\u{ad}"] {
        let mut read = document(x);
        assert_eq!(clean(&mut read).len(), 1);
        assert_eq!(read, document(""), "{x:?}");
    }
    let mut named = Document {
        blocks: vec![Block {
            within: Vec::new(),
            opens: 0,
            content: Content::Code {
                language: "ru\u{200b}st".to_owned(),
                text: Text::plain("\0x\u{85}\u{7f}\u{1b}"),
            },
        }],
    };
    assert_eq!(clean(&mut named), [Kind::Invisible.warning(), Kind::Control.warning()]);
    assert_eq!(named, parse("```rust\nx\n```"));
}

#[test]
fn a_link_whose_label_was_unseen_shows_its_address() {
    for label in ["\u{fff9}\u{fffb}", "\u{fdd0} \u{fffe}"] {
        let (document, _) = cleaned(&format!("see [{label}](https://x.example/\u{200b}y)."));
        assert_eq!(document, parse("see <https://x.example/y>."), "{label:?}");
    }
}

#[test]
fn what_is_empty_then_is_gone() {
    let (document, _) = cleaned("- \u{fff9}\n\n  a\n- b\n\n\u{fffa}\n\n```\n\u{fffb}\n```");
    assert_eq!(document, parse("- a\n- b"));
    assert!(cleaned("\u{fff9}").0.is_blank());
}

#[test]
fn styles_keep_their_places() {
    let (document, _) = cleaned("a\u{200b}b **c\u{ad}d**\u{feff} _e_");
    let text = document.texts().next().unwrap();
    assert_eq!(text.text, "ab cd e");
    let spans = [(3..5, Style::Bold), (6..7, Style::Italic)];
    assert_eq!(text.spans, spans.map(|(range, style)| Span { range, style }));
}

#[test]
fn a_megabyte_is_cleaned_at_once() {
    for piece in [
        "e\u{301}\u{200c}",
        "\u{200b}a",
        "[\u{200b}x](https://x.example/\u{200b})",
        "🏴\u{e0067}",
        "\u{6be}\u{200c}",
    ] {
        let mut document = parse(&piece.repeat((1 << 20) / piece.len()));
        let start = std::time::Instant::now();
        clean(&mut document);
        // Far below a second on an idle machine; anything quadratic takes minutes.
        assert!(start.elapsed().as_secs() < 5, "{piece:?}: {:?}", start.elapsed());
    }
}

/// Every string in a document.
fn strings(document: &Document) -> Vec<&str> {
    let languages = document.blocks.iter().filter_map(|block| match &block.content {
        Content::Code { language, .. } => Some(language.as_str()),
        _ => None,
    });
    let links = document.texts().flat_map(|text| &text.spans).filter_map(|span| {
        if let Style::Link(url) = &span.style { Some(url.as_str()) } else { None }
    });
    document.texts().map(|text| text.text.as_str()).chain(languages).chain(links).collect()
}

/// Whether a character has no place anywhere, whatever stands around it.
fn forbidden(c: char) -> bool {
    (c.is_control() && c != '\n' && c != '\t')
        || matches!(c,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
            | '\u{2060}'..='\u{2064}' | '\u{feff}' | '\u{ad}' | '\u{115f}' | '\u{1160}' | '\u{3164}'
            | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}' | '\u{fdd0}'..='\u{fdef}' | '\u{e0000}'..='\u{e001f}'
            | '\u{fffe}' | '\u{ffff}' | '\u{10fffe}' | '\u{10ffff}')
}

/// What is wrong with what stands beside each other.
fn ill_placed(text: &str) -> Option<(char, char)> {
    let varies = |c| matches!(c, '\u{fe00}'..='\u{fe0f}' | '\u{e0100}'..='\u{e01ef}');
    let joins = |c| matches!(c, '\u{200b}'..='\u{200d}');
    let tags = |c| matches!(c, '\u{e0020}'..='\u{e007f}');
    std::iter::once('\n').chain(text.chars()).zip(text.chars()).find(|(a, b)| {
        let plain = a.is_ascii() && !(a.is_ascii_digit() || matches!(a, '#' | '*'));
        (varies(*b) && (varies(*a) || plain))
            || (joins(*b) && (a.is_ascii() || joins(*a)))
            || (tags(*b) && !tags(*a) && *a != '🏴')
    })
}

fn unseen() -> impl Strategy<Value = String> {
    let some = proptest::sample::select(vec![
        "\u{200b}",
        "\u{200c}",
        "\u{200d}",
        "\u{200e}",
        "\u{202e}",
        "\u{2069}",
        "\u{feff}",
        "\u{ad}",
        "\u{34f}",
        "\u{fe00}",
        "\u{fe0f}",
        "\u{e0100}",
        "\u{e01ef}",
        "\u{e0067}",
        "\u{e007f}",
        "\u{180e}",
        "\u{180b}",
        "\u{115f}",
        "\u{3164}",
        "\u{fff9}",
        "\u{fffe}",
        "🏴",
        "🏴\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f}",
        "👩",
        "❤",
        "🏽",
        "1",
        "\u{20e3}",
        "می",
        "क",
        "\u{94d}",
        "ភ",
        "ᠠ",
        "葛",
        "\u{301}",
        "\u{5b4}",
        "a",
        " ",
        "\n",
        "**",
        "`",
        "[",
        "](https://x.example/",
        ")",
        "https://x.example/",
        "| a |\n|-|\n",
        "- ",
    ]);
    prop_oneof![
        2 => any_text(),
        3 => proptest::collection::vec(some.prop_map(str::to_owned), 0..60).prop_map(|f| f.concat()),
    ]
}

proptest! {
    #[test]
    fn nothing_unseen_is_left_and_cleaning_twice_is_cleaning_once(markdown in unseen()) {
        let before = parse(&markdown);
        let (document, warnings) = cleaned(&markdown);
        prop_assert_eq!(warnings.is_empty(), document == before);
        for string in strings(&document) {
            prop_assert_eq!(string.chars().find(|c| forbidden(*c)), None, "{:?}", string);
            prop_assert_eq!(ill_placed(string), None, "{:?}", string);
        }
        crate::render::flaws(&document).map_err(TestCaseError::fail)?;
        let mut again = document.clone();
        prop_assert_eq!(clean(&mut again), Vec::<String>::new());
        prop_assert_eq!(again, document);
    }
}
