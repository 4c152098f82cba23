//! Inputs for the dialects' tests: one rich sample, and generators of the worst there is.

use proptest::prelude::*;

/// Everything Markdown has, and some of what people try.
pub(crate) const RICH: &str = r#"# Deploy *finished*

Text with **bold**, _italic_, ~~gone~~, `code` and snake_case_name.
Second line: 2 * 3 < 7 & "quoted" #5.

- one
  - nested **two**
    1. deep

       still deep
- [x] done
- [ ] open

3. three
4. four

> quoted
> - item in a quote
>
> ```sh
> echo "in a quote"
> ```

```rust
fn main() { println!("a < b && c"); }
```

| Name | Größe | 状态 |
|:-----|------:|:----:|
| a `x|y` | 1 | 正常 |
| longer \| name | 200 | ok |

See [wiki](https://en.wikipedia.org/wiki/Rust_(video_game)), ![a chart](https://x.example/c.png),
<https://x.example/a_b>, https://bare.example/q?a=1&b=2. and [bad](javascript:alert(1)).

---

#### Small heading

<b onclick="x">html</b> \*not bold\* &lt;!channel&gt; [ERROR]: what

1\. not a list
\# not a heading
\> not a quote
"#;

/// Text of every sort.
pub(crate) fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        2 => proptest::collection::vec(any::<char>(), 0..400).prop_map(String::from_iter),
        3 => "[ -~\n]{0,600}",
        6 => proptest::collection::vec(fragment(), 0..160).prop_map(|f| f.concat()),
        1 => (fragment(), 1..3000_usize).prop_map(|(f, n)| f.repeat(n)),
        1 => (proptest::collection::vec(fragment(), 1..6), 1..400_usize)
            .prop_map(|(f, n)| f.concat().repeat(n)),
    ]
}

fn fragment() -> impl Strategy<Value = String> {
    let fixed = proptest::sample::select(vec![
        "*",
        "**",
        "***",
        "_",
        "__",
        "~",
        "~~",
        "`",
        "``",
        "```",
        "````",
        "~~~",
        "[",
        "]",
        "(",
        ")",
        "<",
        ">",
        "&",
        "|",
        "||",
        "#",
        "# ",
        "## ",
        "##### ",
        "-",
        "- ",
        "--",
        "---",
        "\n---\n",
        "+ ",
        "* ",
        "1. ",
        "7) ",
        "1234567890. ",
        "- [ ] ",
        "- [x] ",
        "> ",
        ">>> ",
        "> > ",
        "-# ",
        "@",
        "!",
        "![",
        "](",
        "](https://x.example/)",
        "](<https://x.example/a b>)",
        "https://x.example/a_b*c",
        "http://",
        "<https://x.example>",
        "<a@x.example>",
        "\n",
        "\n",
        "\n\n",
        "\n\n",
        "  \n",
        "\\\n",
        "\n    ",
        "\n  ",
        "\t",
        " ",
        " ",
        "\\",
        "\\\\",
        "\\*",
        "&lt;",
        "&gt;",
        "&amp;",
        "&amp;lt;",
        "&#64;",
        "&#x40;",
        "&#10;",
        "&#0;",
        "&nbsp;",
        "&commat;",
        "&excl;",
        "<!channel>",
        "<!here>",
        "<!everyone|x>",
        "<!subteam^S1>",
        "<@U1>",
        "<@1>",
        "<@&1>",
        "<@!1>",
        "@everyone",
        "@here",
        "@channel",
        "@every",
        "one",
        "channel",
        "here",
        "&lt;!",
        "tg://user?id=1",
        "tg:",
        "//user",
        "[x](tg://user?id=1)",
        "[^1]",
        "[^1]: ",
        "[a]: b\n",
        "[a]",
        "[a]: https://x.example\n",
        "\n| a | b |\n|---|:-:|\n| c | d |\n",
        "\n|a|\n|-|\n",
        "| ",
        " |\n",
        ":-:",
        "\n```\n",
        "\n```rust\n",
        "\n~~~ `x` y\n",
        "<b>",
        "</b>",
        "<br>",
        "<!--",
        "-->",
        "<pre>",
        "a",
        "word",
        "two words",
        "snake_case",
        "1",
        "2.",
        "ü",
        "状态",
        "👩‍👩‍👧",
        "🇩🇪",
        "e\u{301}",
        "\u{200b}",
        "\u{200d}",
        "\u{600}",
        "\u{202e}",
        "\u{2028}",
        "\u{a0}",
        "\u{3000}",
        "\0",
        "\u{1b}",
        "\u{85}",
        "\r",
        "\r\n",
        "=",
        "===",
        "\n===\n",
        "$",
        "^",
        "{",
        "}",
        "\"",
        "'",
        ":",
        ";",
        ".",
        ",",
        "?",
        "/",
    ])
    .prop_map(str::to_owned);
    prop_oneof![
        30 => fixed,
        2 => "[a-z]{1,12} ",
        1 => ("[a-z*_`\\\\]", 1..1500_usize).prop_map(|(s, n)| s.repeat(n)),
        1 => any::<char>().prop_map(String::from),
    ]
}

/// A megabyte each of what is slow to read or to cut for somebody who is not careful.
pub(crate) fn megabytes() -> [(&'static str, String); 6] {
    let n = 1 << 20;
    [
        ("links that do not end", "[a](".repeat(n / 4)),
        ("lists and blank lines", "- ".repeat(90) + &"\n".repeat(n / 2) + &"- ".repeat(n / 4)),
        (
            "a wide table",
            "|a".repeat(9_000) + "|\n" + &"|-".repeat(9_000) + "|\n" + &"|c\n".repeat(n / 4),
        ),
        ("one space", "a".to_owned() + &" ".repeat(n) + "b"),
        ("mentions", "<@&1> @everyone ".repeat(n / 16)),
        ("long links", format!("[a](http://x.example/{}) ", "x".repeat(3_000)).repeat(n / 3_024)),
    ]
}
