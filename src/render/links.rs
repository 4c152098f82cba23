//! Addresses: which may be kept as links, and where one stands in a text without being marked up.

use std::borrow::Cow;

use super::document::{Document, Span, Style, Text};

/// A link's address as it may be kept: absolute, of a scheme that only opens a page or a letter, and without
/// any character that could end a link in one of the dialects.
pub(super) fn address(url: &str) -> Option<String> {
    let scheme = url.split_once(':')?.0.to_ascii_lowercase();
    if !matches!(scheme.as_str(), "http" | "https" | "mailto") {
        return None;
    }
    let mut kept = String::with_capacity(url.len());
    for c in url.trim().chars() {
        match c {
            '<' | '>' | '"' | '`' | '\\' | '|' | '^' | '{' | '}' => {
                kept.push_str(&format!("%{:02X}", u32::from(c)));
            }
            ' ' => kept.push_str("%20"),
            c if c.is_control() => {}
            c if c.is_whitespace() => {
                let mut bytes = [0; 4];
                for b in c.encode_utf8(&mut bytes).bytes() {
                    kept.push_str(&format!("%{b:02X}"));
                }
            }
            c => kept.push(c),
        }
    }
    Some(kept)
}

/// The Telegram user that `tg://user?id=5000000001` leads to.
pub(super) fn user(url: &str) -> Option<u64> {
    let id = url.trim().strip_prefix("tg://user?id=")?;
    id.bytes().all(|b| b.is_ascii_digit()).then(|| id.parse().ok()).flatten()
}

impl Text {
    /// The text as it is kept: without trailing space and empty spans, and with a link over each bare address.
    pub(super) fn finished(mut self) -> Self {
        self.text.truncate(self.text.trim_end().len());
        let length = self.text.len();
        for span in &mut self.spans {
            span.range.end = span.range.end.min(length);
        }
        self.spans.retain(|span| span.range.start < span.range.end);
        if self.text.contains("://") {
            self.link_addresses();
        }
        self
    }

    /// Puts a link over each bare `http://` and `https://` address outside code and links.
    pub(crate) fn link_addresses(&mut self) {
        let edges = self.edges();
        let mut taken = self
            .spans
            .iter()
            .filter(|span| span.style == Style::Code || span.style.is_link())
            .map(|span| span.range.clone())
            .peekable();
        let mut found = Vec::new();
        let mut done = 0;
        for (colon, _) in self.text.match_indices("://") {
            let head = self.text.get(done..colon).unwrap_or_default();
            let lower = head
                .get(head.floor_char_boundary(head.len().saturating_sub(5))..)
                .unwrap_or_default()
                .to_ascii_lowercase();
            let scheme = ["https", "http"].into_iter().find(|s| lower.ends_with(s));
            let Some(start) = scheme.map(|scheme| colon - scheme.len()) else {
                continue;
            };
            let glued = self.text.get(..start).unwrap_or_default().chars().next_back();
            while taken.next_if(|range| range.end <= start).is_some() {}
            if glued.is_some_and(char::is_alphanumeric)
                || taken.peek().is_some_and(|range| range.start <= start)
            {
                continue;
            }
            let edge = edges.get(edges.partition_point(|edge| *edge <= start));
            let limit = edge.copied().unwrap_or(self.text.len());
            let end = start + length(self.text.get(start..limit).unwrap_or_default());
            if end > colon + 3
                && let Some(url) = address(self.text.get(start..end).unwrap_or_default())
            {
                found.push(Span { range: start..end, style: Style::Link(url) });
                done = end;
            }
        }
        if !found.is_empty() {
            self.spans.append(&mut found);
            // A stable sort: at the same start the spans of the source come first, and they are the outer ones.
            self.spans.sort_by_key(|span| span.range.start);
        }
    }
}

/// How much of `rest` belongs to the address it begins with: GitHub's rules for bare addresses.
fn length(rest: &str) -> usize {
    let end = rest
        .find(|c: char| c.is_whitespace() || c.is_control() || "<>\"`|".contains(c))
        .unwrap_or(rest.len());
    let mut url = rest.get(..end).unwrap_or_default();
    let (mut opened, mut closed) = (0_usize, 0_usize);
    for c in url.chars() {
        opened += usize::from(c == '(');
        closed += usize::from(c == ')');
    }
    while let Some(last) = url.chars().next_back() {
        let drop = match last {
            ')' => closed > opened,
            c => "?!.,:;*_~'\u{200b}".contains(c),
        };
        if !drop {
            break;
        }
        closed -= usize::from(last == ')');
        url = url.get(..url.len() - last.len_utf8()).unwrap_or_default();
    }
    url.len()
}

impl Document {
    /// The document, with links of more than `longest` bytes written out behind their labels.
    pub(super) fn with_short_links(&self, longest: usize) -> Cow<'_, Self> {
        let long = |text: &Text| text.spans.iter().any(|span| too_long(span, longest));
        if !self.texts().any(long) {
            return Cow::Borrowed(self);
        }
        let mut document = self.clone();
        for text in document.texts_mut().filter(|text| long(text)) {
            text.spell_out(longest);
        }
        Cow::Owned(document)
    }
}

fn too_long(span: &Span, longest: usize) -> bool {
    matches!(&span.style, Style::Link(url) if url.len() > longest)
}

impl Text {
    fn spell_out(&mut self, longest: usize) {
        let source = std::mem::take(self);
        let (long, kept): (Vec<_>, Vec<_>) =
            source.spans.into_iter().partition(|span| too_long(span, longest));
        // Links do not nest, so their ends are in order.
        let mut moved = Vec::new();
        let mut done = 0;
        for span in long {
            let Style::Link(url) = span.style else {
                continue;
            };
            self.text.push_str(source.text.get(done..span.range.end).unwrap_or_default());
            done = span.range.end;
            if source.text.get(span.range.clone()) != Some(url.as_str()) {
                let added = format!(" ({url})");
                moved.push((span.range.end, added.len()));
                self.text.push_str(&added);
            }
        }
        self.text.push_str(source.text.get(done..).unwrap_or_default());
        self.spans = kept;
        let shift = |at: usize, whole: bool| -> usize {
            moved.iter().filter(|(end, _)| *end < at || (whole && *end == at)).map(|(_, n)| n).sum()
        };
        for span in &mut self.spans {
            span.range = span.range.start + shift(span.range.start, true)
                ..span.range.end + shift(span.range.end, false);
        }
    }
}
