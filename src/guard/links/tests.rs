use proptest::prelude::*;

use super::*;
use crate::render::parse;
use crate::render::samples::any_text;

/// A document in the least of Markdown: links, code and bold, nothing escaped.
fn outline(document: &Document) -> String {
    let mut out = Vec::new();
    for text in document.texts() {
        let mut marks: Vec<(usize, bool, usize, String)> = Vec::new();
        for (i, span) in text.spans.iter().enumerate() {
            let (open, close) = match &span.style {
                Style::Bold => ("**", "**".to_owned()),
                Style::Italic => ("_", "_".to_owned()),
                Style::Strike => ("~~", "~~".to_owned()),
                Style::Code => ("`", "`".to_owned()),
                Style::Link(url) if text.text.get(span.range.clone()) == Some(url) => {
                    ("<", ">".to_owned())
                }
                Style::Link(url) => ("[", format!("]({url})")),
                Style::User(id) => ("[", format!("](tg://user?id={id})")),
                Style::Mention(_) => ("", String::new()),
            };
            marks.push((span.range.start, true, i, open.to_owned()));
            marks.push((span.range.end, false, usize::MAX - i, close));
        }
        marks.sort();
        let mut written = String::new();
        let mut done = 0;
        for (at, _, _, mark) in marks {
            written.push_str(text.text.get(done..at).unwrap());
            written.push_str(&mark);
            done = at;
        }
        written.push_str(text.text.get(done..).unwrap());
        out.push(written);
    }
    out.join(" | ")
}

fn unmasked(markdown: &str, allowed: Option<&[&str]>) -> (String, Vec<String>) {
    let allowed: Option<Vec<String>> =
        allowed.map(|list| list.iter().map(|domain| (*domain).to_owned()).collect());
    let mut document = parse(markdown);
    let warnings = unmask(&mut document, allowed.as_deref());
    crate::render::flaws(&document).unwrap();
    let once = document.clone();
    assert_eq!(unmask(&mut document, allowed.as_deref()), Vec::<String>::new(), "{markdown}");
    assert_eq!(document, once, "{markdown}");
    (outline(&document), warnings)
}

#[test]
fn a_link_that_names_no_other_host_stays_as_it_is() {
    for markdown in [
        "[docs](https://x.example/docs)",
        "[Node.js](https://nodejs.example) [v1.2.3](https://x.example) [1.5](https://x.example)",
        "[config.yaml](https://x.example/config.yaml) [src/main.rs](https://x.example/m)",
        "[pod.spec.containers](https://x.example) [e.g. this](https://x.example) [What?](https://x.example)",
        "<https://x.example/a> https://x.example/https://bank.example/?u=bank.example",
        "[x.example](https://x.example) [X.EXAMPLE./a](https://x.example:443/b) [www.x.example](https://x.example)",
        "[https://x.example/docs](https://www.x.example/docs/other) [x.example:8443](https://x.example)",
        "[`x.example`](https://x.example) **[x.example](http://x.example)**",
        "[ops@x.example](mailto:ops@x.example) <jan.de@x.example> [write](mailto:ops@x.example)",
        "[bücher.example](https://xn--bcher-kva.example) [bücher.example](https://bücher.example)",
        "[10.0.0.5](http://10.0.0.5:3000/d) [Dashboard](http://localhost:3000)",
        "see bank.example:[docs](https://x.example) and a.com/b.md, readme.md",
        "[详见](https://x.example)[x.example文档](https://x.example)",
        "✅x.example is up, 12.5% of README.md; foo.Bar.baz()",
    ] {
        let mut document = parse(markdown);
        let before = document.clone();
        assert_eq!(unmask(&mut document, None), Vec::<String>::new(), "{markdown}");
        assert_eq!(document, before, "{markdown}");
    }
}

#[test]
fn a_link_that_names_another_host_shows_where_it_leads() {
    for (markdown, shown) in [
        (
            "[https://bank.example](https://evil.example/x)",
            "`https://bank.example` ([evil.example](https://evil.example/x))",
        ),
        (
            "[bank.example/login](https://evil.example/x)",
            "`bank.example/login` ([evil.example](https://evil.example/x))",
        ),
        (
            "Go: [Log in at bank.example, now](https://evil.example).",
            "Go: `Log in at bank.example, now` ([evil.example](https://evil.example)).",
        ),
        (
            "[**ba**nk.example](https://evil.example)",
            "`bank.example` ([evil.example](https://evil.example))",
        ),
        (
            "**[*ba*nk.example](https://evil.example) x**",
            "**`bank.example` ([evil.example](https://evil.example)) x**",
        ),
        (
            "[`bank.example`](https://evil.example)",
            "`bank.example` ([evil.example](https://evil.example))",
        ),
        (
            "bank.exam[ple](https://evil.example)",
            "bank.exam`ple` ([evil.example](https://evil.example))",
        ),
        (
            "[bank](https://evil.example)[.example](https://evil.example)",
            "`bank` ([evil.example](https://evil.example))`.example` ([evil.example](https://evil.example))",
        ),
        (
            "[bank．example](https://evil.example)",
            "`bank．example` ([evil.example](https://evil.example))",
        ),
        (
            "[ｂａｎｋ。ｅｘａｍｐｌｅ](https://evil.example)",
            "`ｂａｎｋ。ｅｘａｍｐｌｅ` ([evil.example](https://evil.example))",
        ),
        (
            "[https：／／bank.example](https://evil.example)",
            "`https：／／bank.example` ([evil.example](https://evil.example))",
        ),
        (
            "[https://bank%2Eexample](https://evil.example)",
            "`https://bank%2Eexample` ([evil.example](https://evil.example))",
        ),
        (
            "[https://%62ank.example](https://evil.example)",
            "`https://%62ank.example` ([evil.example](https://evil.example))",
        ),
        (
            "[ba\u{ad}nk.example](https://evil.example)",
            "`ba\u{ad}nk.example` ([evil.example](https://evil.example))",
        ),
        (
            "[bank.example\u{2044}login.evil.example](https://evil.example)",
            "`bank.example\u{2044}login.evil.example` ([evil.example](https://evil.example))",
        ),
        (
            "[https:\u{2215}\u{2215}bank.example\u{2215}a](https://evil.example)",
            "`https:\u{2215}\u{2215}bank.example\u{2215}a` ([evil.example](https://evil.example))",
        ),
        (
            "[bank.exampleノlogin](https://evil.example)",
            "`bank.exampleノlogin` ([evil.example](https://evil.example))",
        ),
        (
            "[https:\\\\\\\\bank.example\\\\a](https://evil.example)",
            "`https:\\\\bank.example\\a` ([evil.example](https://evil.example))",
        ),
        (
            "[https://bank.example@evil.example](https://evil.example/y)",
            "`https://bank.example@evil.example` ([evil.example](https://evil.example/y))",
        ),
        (
            "[ops@bank.example](mailto:thief@evil.example)",
            "`ops@bank.example` ([evil.example](mailto:thief@evil.example))",
        ),
        (
            "[ops@bank.example](mailto:ops@bank.example,thief@evil.example)",
            "`ops@bank.example` (`mailto:ops@bank.example,thief@evil.example`)",
        ),
        (
            "[ops@bank.example](mailto:ops@bank.example?cc=thief@evil.example)",
            "`ops@bank.example` (`mailto:ops@bank.example?cc=thief@evil.example`)",
        ),
        (
            "![https://bank.example](https://evil.example/x.png)",
            "`https://bank.example` ([evil.example](https://evil.example/x.png))",
        ),
        (
            "[![bank.example](https://bank.example/x.png)](https://evil.example)",
            "`bank.example` ([evil.example](https://evil.example))",
        ),
        (
            "[bank.example\nlogin](https://evil.example)",
            "`bank.example login` ([evil.example](https://evil.example))",
        ),
        (
            "| [bank.example](https://evil.example) |\n|-|\n| [bank.example](https://evil.example) |",
            "`bank.example` ([evil.example](https://evil.example)) | `bank.example` ([evil.example](https://evil.example))",
        ),
        (
            "# [bank.example](https://bücher.example)",
            "`bank.example` ([bücher.example](https://bücher.example))",
        ),
        (
            "[请看bank.com的页面](https://evil.example)",
            "`请看bank.com的页面` ([evil.example](https://evil.example))",
        ),
        (
            "[README.md](https://x.example/README.md)",
            "`README.md` ([x.example](https://x.example/README.md))",
        ),
        ("[10.0.0.5](http://10.0.0.6)", "`10.0.0.5` ([10.0.0.6](http://10.0.0.6))"),
        (
            "[localhost](http://x.example) [http://localhost](http://x.example)",
            "[localhost](http://x.example) `http://localhost` ([x.example](http://x.example))",
        ),
        ("[bank.example](https://)", "`bank.example` (`https://`)"),
        ("[bank.example](mailto:nobody)", "`bank.example` (`mailto:nobody`)"),
        ("[bank.example](https://ev!il.example)", "`bank.example` (`https://ev!il.example`)"),
    ] {
        let (outline, warnings) = unmasked(markdown, None);
        assert_eq!(outline, shown, "{markdown}");
        assert_eq!(warnings.len(), 1, "{markdown}: {warnings:?}");
        assert!(
            warnings[0].starts_with("a link whose text names another host shows"),
            "{warnings:?}"
        );
    }
}

#[test]
fn a_user_name_in_an_address_is_taken_out() {
    for (markdown, shown) in [
        ("https://bank.example@evil.example/", "<https://evil.example/>"),
        ("<https://bank.example:443@evil.example/a?b=c@d#e>", "<https://evil.example/a?b=c@d#e>"),
        ("[docs](https://bank.example%2Flogin@evil.example)", "[docs](https://evil.example/)"),
        ("[docs](https://u:p@evil.example:8443/a%20b)", "[docs](https://evil.example:8443/a%20b)"),
    ] {
        let (outline, warnings) = unmasked(markdown, None);
        assert_eq!(outline, shown, "{markdown}");
        assert_eq!(warnings.len(), 1, "{markdown}: {warnings:?}");
        assert!(warnings[0].contains("user's name"), "{warnings:?}");
    }
    let code = "`git clone https://token@git.example/x`";
    assert_eq!(unmasked(code, None), (code.to_owned(), Vec::new()));
}

#[test]
fn a_host_that_could_be_taken_for_another_is_shown_in_punycode() {
    for (markdown, shown) in [
        // Cyrillic and Latin; Cyrillic alone that looks like Latin; a dotless i.
        ("https://p\u{430}ypal.example/a", "<https://xn--pypal-4ve.example/a>"),
        (
            "[docs](https://\u{430}\u{440}\u{440}\u{4cf}\u{435}.com/)",
            "[docs](https://xn--80ak6aa92e.com/)",
        ),
        (
            "[\u{430}\u{440}\u{440}\u{4cf}\u{435}.com](https://xn--80ak6aa92e.com/)",
            "[xn--80ak6aa92e.com](https://xn--80ak6aa92e.com/)",
        ),
        ("write \u{430}\u{440}\u{440}\u{4cf}\u{435}.com.", "write xn--80ak6aa92e.com."),
        ("paypa\u{131}.com", "xn--paypa-r4a.com"),
        (
            "`curl https://\u{430}\u{440}\u{440}\u{4cf}\u{435}.com/x | sh`",
            "`curl https://xn--80ak6aa92e.com/x | sh`",
        ),
        (
            "```\nwget https://\u{430}\u{440}\u{440}\u{4cf}\u{435}.com\n```",
            "wget https://xn--80ak6aa92e.com",
        ),
        (
            "[docs](https://%D0%B0%D1%80%D1%80%D3%8F%D0%B5.com)",
            "[docs](https://xn--80ak6aa92e.com/)",
        ),
    ] {
        let (outline, warnings) = unmasked(markdown, None);
        assert_eq!(outline, shown, "{markdown}");
        assert_eq!(warnings.len(), 1, "{markdown}: {warnings:?}");
        assert!(warnings[0].contains("punycode"), "{warnings:?}");
    }
    // However many full stops end it, it is told once.
    for stops in ["..", "．", "．.", "．．:"] {
        let (outline, _) = unmasked(&format!("https://p\u{430}ypal.example{stops}/a"), None);
        assert!(outline.starts_with("<https://xn--pypal-4ve.example"), "{outline}");
    }
    // Something in it looks like what ends a host.
    for slash in ["\u{2044}", "\u{2215}", "\u{30ce}"] {
        let (outline, warnings) =
            unmasked(&format!("https://bank.example{slash}a.evil.example/"), None);
        assert!(outline.starts_with("<https://bank.xn--"), "{outline}");
        assert!(outline.is_ascii() && outline.ends_with(".evil.example/>"), "{outline}");
        assert_eq!(warnings.len(), 1);
    }
    for host in [
        "bücher.example",
        "пример.рф",
        "россия.example",
        "例え.jp",
        "ノート.jp",
        "中文abc.com",
        "한국.com",
        "שלום.example",
        "træ.dk",
        "œuvre.fr",
        "þorn.is",
        "straße.de",
        "مثال.example",
        "उदाहरण.example",
        "ελλάδα.gr",
        "łódź.pl",
    ] {
        let markdown =
            format!("https://{host}/a [docs](https://{host}) {host} [{host}](https://{host})");
        let (outline, warnings) = unmasked(&markdown, None);
        assert_eq!(warnings, Vec::<String>::new(), "{host}");
        assert!(outline.starts_with(&format!("<https://{host}/a>")), "{outline}");
    }
}

#[test]
fn with_a_list_nothing_else_is_a_link() {
    for (markdown, shown) in [
        (
            "[a](https://ok.example) https://api.ok.example:8443/x <https://WWW.OK.example./>",
            "[a](https://ok.example) <https://api.ok.example:8443/x> <https://WWW.OK.example./>",
        ),
        (
            "ok.example, api.ok.example/x, ops@ok.example",
            "ok.example, api.ok.example/x, ops@ok.example",
        ),
        ("[docs](https://evil.example/x?y=z)", "docs (`https://evil.example/x?y=z`)"),
        ("[a **b** `c`](https://evil.example)", "a **b** `c` (`https://evil.example`)"),
        (
            "https://evil.example/x, **https://evil.example**",
            "`https://evil.example/x`, **`https://evil.example`**",
        ),
        (
            "see evil.example/x. Or evil.example:80, (www.evil.example)!",
            "see `evil.example/x`. Or `evil.example:80`, (`www.evil.example`)!",
        ),
        (
            "https://notok.example https://ok.example.evil.example",
            "`https://notok.example` `https://ok.example.evil.example`",
        ),
        ("https://ok.example@evil.example", "`https://evil.example/`"),
        ("[ok.example](https://evil.example)", "ok.example (`https://evil.example`)"),
        (
            "mail bob@evil.example or <bob@evil.example>",
            "mail `bob@evil.example` or `bob@evil.example`",
        ),
        (
            "xhttps://evil.example/a ftp://evil.example tg://resolve?domain=evil",
            "`xhttps://evil.example/a` `ftp://evil.example` `tg://resolve?domain=evil`",
        ),
        (
            "redis://cache:6379 s3://bucket/key config.yaml 1.5 Node.js",
            "redis://cache:6379 s3://bucket/key config.yaml 1.5 Node.js",
        ),
        ("**ev**il.example and `evil.example`", "`evil.example` and `evil.example`"),
        ("evil.`example`", "`evil.example`"),
        (
            "| [a](https://evil.example) |\n|-|\n| evil.example |",
            "a (`https://evil.example`) | `evil.example`",
        ),
        ("10.0.0.5 and http://10.0.0.5/", "`10.0.0.5` and `http://10.0.0.5/`"),
        ("[a](mailto:x@ok.example,y@evil.example)", "a (`mailto:x@ok.example,y@evil.example`)"),
        ("[a](mailto:x)", "a (`mailto:x`)"),
        ("a．evil．example", "`a．evil．example`"),
        ("```\nhttps://evil.example\n```", "https://evil.example"),
    ] {
        let (outline, warnings) = unmasked(markdown, Some(&["ok.example"]));
        assert_eq!(outline, shown, "{markdown}");
        let outside = warnings.iter().filter(|warning| warning.contains("not allowed")).count();
        assert_eq!(
            outside == 1,
            outline.contains('`') && !markdown.starts_with("```"),
            "{warnings:?}"
        );
    }
    let listed = Some(["OK.example.", "*.bücher.example", "10.0.0.5", "localhost"].as_slice());
    let markdown = "[a](https://ok.example) [b](https://a.xn--bcher-kva.example) [c](http://10.0.0.5:80) [d](http://localhost:3000)";
    assert_eq!(unmasked(markdown, listed), (markdown.to_owned(), Vec::new()));
    assert_eq!(unmasked("[a](http://1.10.0.0.5)", listed).0, "a (`http://1.10.0.0.5`)");
    assert_eq!(unmasked("[a](https://ok.example)", Some(&[])).0, "a (`https://ok.example`)");
}

#[test]
fn a_channels_list_is_what_the_guard_goes_by() {
    let guarded = |link_domains: Option<&str>| {
        let mut document = parse("[docs](https://evil.example/x)");
        let link_domains = link_domains.map(|domain| vec![domain.to_owned()].into());
        let terms = crate::policy::Terms { link_domains, ..Default::default() };
        let platform = crate::model::PlatformKind::Slack;
        let found =
            crate::guard::Guard::default().document(&mut document, platform, &terms).unwrap();
        (outline(&document), found.filtered.len())
    };
    assert_eq!(guarded(None), ("[docs](https://evil.example/x)".to_owned(), 0));
    assert_eq!(guarded(Some("evil.example")), ("[docs](https://evil.example/x)".to_owned(), 0));
    let unlinked = "docs (`https://evil.example/x`)".to_owned();
    assert_eq!(guarded(Some("ok.example")), (unlinked, 1));
}

#[test]
fn a_name_that_is_longer_than_any_host_is_none() {
    let of = |length: usize| format!("{}.example", ["a"; 300].join(".").get(..length).unwrap());
    let (longest, longer) = (of(245), of(247));
    assert_eq!((longest.len(), longer.len()), (253, 255));
    assert_eq!(unmasked(&longest, Some(&["ok.example"])).0, format!("`{longest}`"));
    assert_eq!(unmasked(&longer, Some(&["ok.example"])).0, longer);
}

#[test]
fn an_address_that_cleaning_put_together_is_a_link_like_others() {
    let mut document = parse("ht\u{200b}tps://evil.example/a");
    super::super::characters::clean(&mut document);
    unmask(&mut document, None);
    assert_eq!(outline(&document), "<https://evil.example/a>");
    // It was one address that leads nowhere; glued to a word it is none, and what it hid is one.
    let mut document = parse("a.b\u{ad}https://](https://evil.example/a)");
    super::super::characters::clean(&mut document);
    unmask(&mut document, None);
    assert_eq!(outline(&document), "a.bhttps://](<https://evil.example/a>)");
}

#[test]
fn a_megabyte_is_read_at_once() {
    let list = ["ok.example".to_owned()];
    for piece in [
        "[bank.example](https://evil.example/) ",
        "evil.example ",
        "a.",
        "a.com@",
        "[a](https://u@evil.example) ",
        "https://\u{430}pple.com,",
        "\u{2044}",
        "//",
        "%41.",
    ] {
        let document = parse(&piece.repeat((1 << 20) / piece.len()));
        for allowed in [None, Some(list.as_slice())] {
            let mut document = document.clone();
            let start = std::time::Instant::now();
            unmask(&mut document, allowed);
            // Far below a second on an idle machine; anything quadratic takes minutes.
            assert!(start.elapsed().as_secs() < 20, "{piece:?}: {:?}", start.elapsed());
        }
    }
}

fn addresses() -> impl Strategy<Value = String> {
    let some = proptest::sample::select(vec![
        "[",
        "](https://evil.example/a)",
        "](https://ok.example)",
        "](mailto:a@evil.example)",
        "](https://u@evil.example)",
        "](https://p\u{430}ypal.example)",
        "](http://",
        ")",
        "https://",
        "http://",
        "bank.example",
        "evil.example",
        "ok.example",
        "p\u{430}ypal.example",
        "www.",
        "@",
        ":",
        "/",
        "//",
        "\u{2044}",
        "．",
        "%2E",
        "%41",
        "?",
        "#",
        "a",
        "b.c",
        "_",
        "-",
        ".",
        ",",
        " ",
        "\n",
        "**",
        "*",
        "`",
        "~~",
        "!",
        "![",
        "<",
        ">",
        "(",
        "|",
        "\n| a |\n|-|\n| ",
        "ノ",
        "请",
        "\u{ad}",
        "10.0.0.5",
        "1.5",
        "mailto:",
        "com",
        ".com",
        "tg://",
        "\n```\n",
        "# ",
        "- ",
    ]);
    prop_oneof![
        1 => any_text(),
        3 => proptest::collection::vec(some.prop_map(str::to_owned), 0..40).prop_map(|f| f.concat()),
    ]
}

proptest! {
    #[test]
    fn links_lead_where_they_say_and_unmasking_twice_is_unmasking_once(
        markdown in addresses(),
        listed in any::<bool>(),
    ) {
        let list = ["ok.example".to_owned()];
        let allowed = listed.then_some(list.as_slice());
        let mut document = parse(&markdown);
        super::super::characters::clean(&mut document);
        let before = document.clone();
        let warnings = unmask(&mut document, allowed);
        crate::render::flaws(&document).map_err(TestCaseError::fail)?;
        for span in document.texts().flat_map(|text| &text.spans) {
            if let (Style::Link(url), true) = (&span.style, listed) {
                // Read anew, by the crate that browsers' rules are in.
                let host = url.strip_prefix("mailto:").and_then(|to| to.rsplit_once('@')).map(|(_, host)| host.to_owned());
                let host = host.or_else(|| url::Url::parse(url).unwrap().host_str().map(str::to_owned)).unwrap();
                prop_assert!(host.trim_end_matches('.').ends_with("ok.example"), "{}", url);
            }
        }
        if document != before && warnings.is_empty() {
            // Only links over what had become an address.
            prop_assert_eq!(crate::render::judge::words(&document), crate::render::judge::words(&before));
        }
        let mut again = document.clone();
        prop_assert_eq!(unmask(&mut again, allowed), Vec::<String>::new());
        prop_assert_eq!(again, document);
    }
}
