//! What everything that is rendered for Slack keeps, whatever was written.

use super::*;
use crate::guard::{has_active_mention, rehearse};
use crate::model::PlatformKind;
use crate::render::judge::{holds, is_read, seen, words};

/// What a standard Markdown reader shows of a body.
fn shown(body: &str) -> String {
    words(&crate::render::parse(body))
}

/// Whether the renderings for a `markdown` block keep it; if not, what is wrong.
pub(crate) fn check(markdown: &str) -> Result<(), String> {
    let (document, rendered) = rehearse(markdown, PlatformKind::Slack, parts);
    let rendered = match rendered {
        Err(RenderError::Empty) if document.is_blank() => return Ok(()),
        Err(RenderError::TooLong { .. }) if words(&document).len() > 20_000 => return Ok(()),
        other => other.map_err(|error| error.to_string())?,
    };
    for part in &rendered {
        let ensure = |good: bool, what: &str| {
            good.then_some(()).ok_or_else(|| format!("{what}: {:.400?}", part.body))
        };
        ensure(part.body.chars().count() <= MOST_CHARACTERS, "too long")?;
        ensure(part.plain.chars().count() <= MOST_PLAIN_CHARACTERS, "plain too long")?;
        ensure(!seen(&part.body).is_empty() && !seen(&part.plain).is_empty(), "blank")?;
        ensure(!has_active_mention(&part.body, PlatformKind::Slack), "mention")?;
        ensure(!has_active_mention(&part.plain, PlatformKind::Slack), "mention in plain")?;
        ensure(part.body.matches("```").count() % 2 == 0, "fence left open")?;
    }
    if !rendered.iter().all(|part| is_read(&part.body)) {
        return Ok(());
    }
    // A standard reader of the bodies sees the words of the document, and no markup that was not there.
    let all = rendered.iter().map(|part| shown(&part.body)).collect::<String>();
    let wanted = words(&document);
    holds(&all, &wanted).map_err(|error| format!("{error}: {all:.600?}"))?;
    // Nor does it see markup that failed; where a table's header is repeated it sees more.
    if rendered.len() == 1 && !wanted.contains("://") {
        return holds(&wanted, &all).map_err(|error| format!("added: {error}: {all:.600?}"));
    }
    Ok(())
}

/// Whether the renderings as mrkdwn do.
pub(crate) fn check_mrkdwn(markdown: &str) -> Result<(), String> {
    let (document, rendered) = rehearse(markdown, PlatformKind::Slack, mrkdwn);
    let rendered = match rendered {
        Err(_) if document.is_blank() || words(&document).len() > 8_000 => return Ok(()),
        other => other.map_err(|error| error.to_string())?,
    };
    let mut all = String::new();
    for part in rendered {
        let ensure = |good: bool, what: &str| {
            good.then_some(()).ok_or_else(|| format!("{what}: {:.400?}", part.body))
        };
        ensure(part.body.chars().count() <= MOST_PLAIN_CHARACTERS, "too long")?;
        ensure(!has_active_mention(&part.body, PlatformKind::Slack), "mention")?;
        ensure(part.body.matches("```").count() % 2 == 0, "fence left open")?;
        all.push_str(&part.body);
    }
    let all = all.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
    holds(&all, &words(&document))
}
