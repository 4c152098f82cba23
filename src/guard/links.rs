//! A link says where it leads.
//!
//! A text that names one host over a link to another, a user's name that reads as a host, letters that look like others:
//! each is told plainly, in the document, so that it is told on every platform. Where an operator listed the domains that
//! links may lead to, what leads elsewhere is no link.

mod host;
mod scan;

use std::ops::Range;

use crate::render::{Content, Document, Edit, Span, Style, Text};
use host::{Domains, Target, deceptive, shown};
use scan::{Name, names};

/// What was done, in sentences for the caller, one per kind.
#[derive(Default)]
struct Told {
    masked: Option<String>,
    user: bool,
    punycode: Option<String>,
    outside: Option<String>,
}

impl Told {
    fn sentences(self) -> Vec<String> {
        let masked = self.masked.map(|host| {
            format!("a link whose text names another host shows where it leads: {host}")
        });
        let user = self.user.then(|| {
            "a user's name was taken out of an address, which does not lead to what stands before the @"
                .to_owned()
        });
        let punycode = self.punycode.map(|host| {
            format!("a host in letters that could be taken for others is shown in punycode: {host}")
        });
        let outside = self.outside.map(|host| {
            format!("a link to a domain that is not allowed was written as code: {host}")
        });
        [masked, user, punycode, outside].into_iter().flatten().collect()
    }
}

/// Makes links tell where they lead. Says what was changed in sentences for the caller, one per kind.
///
/// - A link whose text names another host: the text becomes code, and the host it leads to stands behind it as the link.
/// - A user's name in an address is taken out, and a host that could be taken for another is written in punycode.
/// - With `allowed`, links to hosts that are neither of these domains nor below one become code, and so does every bare
///   address that a platform would make a link of by itself.
pub(super) fn unmask(document: &mut Document, allowed: Option<&[String]>) -> Vec<String> {
    let domains = allowed.map(Domains::of);
    let mut told = Told::default();
    for block in &mut document.blocks {
        let code = matches!(block.content, Content::Code { .. });
        for text in block.content.texts_mut() {
            if code {
                name_plainly(text, true, &mut told);
            } else {
                unmask_text(text, domains.as_ref(), &mut told);
            }
        }
    }
    told.sentences()
}

/// One change may make room for another: a link that is none any more leaves its words, an address that is told plainly
/// ends elsewhere. Nobody writes what takes more rounds than this.
const MOST_ROUNDS: usize = 8;

fn unmask_text(text: &mut Text, domains: Option<&Domains>, told: &mut Told) {
    for _ in 0..MOST_ROUNDS {
        let before = text.clone();
        // What was parted by something unseen may have become an address since it was read.
        text.link_addresses();
        lead_plainly(text, told);
        if let Some(domains) = domains {
            unlink(text, domains, told);
        }
        drop_broken(text);
        name_plainly(text, false, told);
        show_hosts(text, told);
        if let Some(domains) = domains {
            write_as_code(text, domains, told);
        }
        if *text == before {
            break;
        }
    }
}

/// The addresses of links, and what these cover where that is the same.
fn lead_plainly(text: &mut Text, told: &mut Told) {
    let mut edits = Vec::new();
    for span in &mut text.spans {
        if let Style::Link(url) = &mut span.style
            && let Some(target) = Target::of(url)
            && let Some(plain) = target.plain
        {
            told.user |= plain.user;
            if plain.punycode && told.punycode.is_none() {
                told.punycode = target.hosts.into_iter().next();
            }
            if text.text.get(span.range.clone()) == Some(url.as_str()) {
                edits.push(Edit::plain(span.range.clone(), plain.address.clone()));
            }
            *url = plain.address;
        }
    }
    text.rewrite(edits);
}

/// Hosts in words. In code, where many things have a full stop in them, only those behind `://`.
fn name_plainly(text: &mut Text, code: bool, told: &mut Told) {
    // Only what is not ASCII looks like something else, and only a host that is written with `%` can hide that it is not.
    if text.text.is_ascii() && !text.text.contains('%') {
        return;
    }
    let inside = ranges(text, |style| *style == Style::Code);
    let mut edits = Vec::new();
    for name in names(&text.text) {
        let written = text.text.get(name.range.clone()).unwrap_or_default();
        if deceptive(&name.host)
            && !written.eq_ignore_ascii_case(&name.host)
            && (name.scheme || !(code || touching(&inside, &name.range).next().is_some()))
        {
            told.punycode.get_or_insert_with(|| name.host.clone());
            edits.push(Edit::plain(name.range, name.host));
        }
    }
    text.rewrite(edits);
}

/// Links whose words name another host than they lead to.
fn show_hosts(text: &mut Text, told: &mut Told) {
    let other = |span: &Span| matches!(&span.style, Style::Link(url) if text.text.get(span.range.clone()) != Some(url.as_str()));
    if !text.spans.iter().any(other) {
        return;
    }
    let names = names(&text.text);
    let mut edits = Vec::new();
    let mut masked_until = 0;
    let mut kept = Vec::with_capacity(text.spans.len());
    for span in std::mem::take(&mut text.spans) {
        if span.range.start < masked_until {
            // What a part of the words meant is lost where all of them are code.
            continue;
        }
        let label = text.text.get(span.range.clone()).unwrap_or_default();
        if let Style::Link(url) = &span.style
            && label != url
            && let target = Target::of(url)
            && naming(&names, &span.range).any(|name| !honest(name, target.as_ref()))
        {
            masked_until = span.range.end;
            let (real, link) = match target.filter(|target| target.tells_its_host()) {
                Some(target) => (target.hosts.first().map(|host| shown(host)), true),
                None => (None, false),
            };
            let real = real.unwrap_or_else(|| url.clone());
            told.masked.get_or_insert_with(|| real.clone());
            let style = if link { Style::Link(url.clone()) } else { Style::Code };
            edits.push(as_code(span.range.clone(), label, Some((&real, style))));
        } else {
            kept.push(span);
        }
    }
    text.spans = kept;
    text.rewrite(edits);
}

/// Whether a link may stand over a name.
fn honest(name: &Name, target: Option<&Target>) -> bool {
    target.is_some_and(|target| (target.letter && name.user) || target.is(&name.host))
}

impl Target {
    /// Whether its host, shown by itself, reads as that host.
    fn tells_its_host(&self) -> bool {
        self.hosts.first().is_some_and(|host| {
            !host.is_empty()
                && self.is(host)
                && names(&shown(host)).iter().all(|name| honest(name, Some(self)))
        })
    }
}

/// What an address may begin with that a label may leave out.
const SCHEMES: [&str; 4] = ["", "https://", "http://", "mailto:"];

/// Links to other domains: their words stay, and the address stands behind them, as code.
fn unlink(text: &mut Text, domains: &Domains, told: &mut Told) {
    let mut edits = Vec::new();
    let mut code_until = 0;
    let mut kept = Vec::with_capacity(text.spans.len());
    for span in std::mem::take(&mut text.spans) {
        if span.range.start < code_until {
            continue;
        }
        let Style::Link(url) = &span.style else {
            kept.push(span);
            continue;
        };
        let target = Target::of(url);
        if domains.hold_all(target.as_ref()) {
            kept.push(span);
            continue;
        }
        told.outside.get_or_insert_with(|| {
            let host = target.and_then(|target| target.hosts.into_iter().next());
            host.filter(|host| !host.is_empty()).unwrap_or_else(|| url.clone())
        });
        let label = text.text.get(span.range.clone()).unwrap_or_default();
        let same = url.strip_suffix(label).is_some_and(|scheme| SCHEMES.contains(&scheme));
        // Words that are an address would be a link of their own.
        if same || label.contains("://") {
            code_until = span.range.end;
            edits.push(as_code(span.range, label, (!same).then_some((url, Style::Code))));
        } else {
            let code = Span { range: 2..2 + url.len(), style: Style::Code };
            let end = span.range.end;
            edits.push(Edit { range: end..end, with: format!(" ({url})"), spans: vec![code] });
        }
    }
    text.spans = kept;
    text.rewrite(edits);
}

/// A label as code, and behind it what it stood for.
fn as_code(range: Range<usize>, label: &str, behind: Option<(&str, Style)>) -> Edit {
    let mut with = label.replace('\n', " ");
    let mut spans = vec![Span { range: 0..with.len(), style: Style::Code }];
    if let Some((words, style)) = behind {
        with.push_str(" (");
        spans.push(Span { range: with.len()..with.len() + words.len(), style });
        with.push_str(words);
        with.push(')');
    }
    Edit { range, with, spans }
}

/// A bare address that leads nowhere is text.
fn drop_broken(text: &mut Text) {
    let words = &text.text;
    text.spans.retain(|span| match &span.style {
        Style::Link(url) if words.get(span.range.clone()) == Some(url) => Target::of(url).is_some(),
        _ => true,
    });
}

/// Bare addresses in other domains, which a platform would make links of.
fn write_as_code(text: &mut Text, domains: &Domains, told: &mut Told) {
    let code = ranges(text, |style| *style == Style::Code);
    let links = ranges(text, |style| matches!(style, Style::Link(_)));
    let mut found: Vec<Range<usize>> = Vec::new();
    for name in names(&text.text) {
        let inside = |ranges: &[Range<usize>]| {
            touching(ranges, &name.range)
                .any(|range| range.start <= name.range.start && name.range.end <= range.end)
        };
        if !name.clickable || domains.hold(&name.host) || inside(&code) || inside(&links) {
            continue;
        }
        told.outside.get_or_insert_with(|| name.host.clone());
        let mut address = name.address.clone();
        for link in touching(&links, &name.address) {
            if link.end <= name.range.start {
                address.start = address.start.max(link.end);
            } else {
                address.end = address.end.min(link.start.max(name.range.end));
            }
        }
        match found.last_mut().filter(|last| address.start < last.end) {
            Some(last) => last.end = last.end.max(address.end),
            None => found.push(address),
        }
    }
    let edits = found.into_iter().map(|range| {
        let with = text.text.get(range.clone()).unwrap_or_default().to_owned();
        let code = Span { range: 0..with.len(), style: Style::Code };
        Edit { range, with, spans: vec![code] }
    });
    text.rewrite(edits.collect());
}

/// Where the spans of a style lie, which are none of them in another.
fn ranges(text: &Text, style: fn(&Style) -> bool) -> Vec<Range<usize>> {
    let spans = text.spans.iter().filter(|span| style(&span.style));
    spans.map(|span| span.range.clone()).collect()
}

/// Those of the ranges, which are in order and apart, that share something with `range`.
fn touching<'a>(
    ranges: &'a [Range<usize>],
    range: &Range<usize>,
) -> impl Iterator<Item = &'a Range<usize>> {
    let first = ranges.partition_point(|other| other.end <= range.start);
    let end = range.end;
    ranges.iter().skip(first).take_while(move |other| other.start < end)
}

/// The names of which a part lies in `range`.
fn naming<'a>(names: &'a [Name], range: &Range<usize>) -> impl Iterator<Item = &'a Name> {
    let first = names.partition_point(|name| name.range.end <= range.start);
    let end = range.end;
    names.iter().skip(first).take_while(move |name| name.range.start < end)
}

#[cfg(test)]
mod tests;
