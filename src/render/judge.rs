//! What renderings are judged by: which characters count, and whether they are all there.

use super::Document;
use super::document::visible;
use super::parse::{overloaded, tidy};

/// What is left to compare when markup and layout may have added something: the visible characters.
pub(crate) fn seen(text: &str) -> Vec<char> {
    text.chars().filter(|c| visible(*c)).collect()
}

/// Whether `whole` holds every character of `wanted`, in order; if not, what stands where the first is missing.
/// The wide signs that the guard may write count as what they stand for.
pub(crate) fn holds(whole: &str, wanted: &str) -> Result<(), String> {
    let narrow = |c: char| match c {
        '＠' => '@',
        '！' => '!',
        '：' => ':',
        c => c,
    };
    let mut rest = whole.chars();
    for (i, c) in wanted.chars().enumerate() {
        if visible(c) && !rest.any(|other| narrow(other) == narrow(c)) {
            let tail: String = wanted.chars().skip(i.saturating_sub(20)).take(40).collect();
            return Err(format!("{c:?} is missing near {tail:?}"));
        }
    }
    Ok(())
}

/// The words of a document in reading order.
pub(crate) fn words(document: &Document) -> String {
    let texts: Vec<&str> = document.texts().map(|text| text.text.as_str()).collect();
    texts.join("\n")
}

/// Whether this is read as Markdown, and not as it is because it has too many marks.
pub(crate) fn is_read(markdown: &str) -> bool {
    !overloaded(&tidy(markdown))
}
