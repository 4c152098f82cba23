//! What everything that is rendered for Discord keeps, whatever was written.

use super::*;
use crate::guard::{has_active_mention, rehearse};
use crate::model::PlatformKind;
use crate::render::judge::{holds, seen, words};

/// Whether the renderings keep it; if not, what is wrong.
pub(crate) fn check(markdown: &str) -> Result<(), String> {
    let (document, rendered) = rehearse(markdown, PlatformKind::Discord, parts);
    let rendered = match rendered {
        Err(RenderError::Empty) if document.is_blank() => return Ok(()),
        Err(RenderError::TooLong { .. }) if words(&document).len() > 4_000 => return Ok(()),
        other => other.map_err(|error| error.to_string())?,
    };
    for part in &rendered {
        let ensure = |good: bool, what: &str| {
            good.then_some(()).ok_or_else(|| format!("{what}: {:.400?}", part.body))
        };
        ensure(part.body.chars().count() <= MOST_CHARACTERS, "too long")?;
        ensure(!seen(&part.body).is_empty() && !seen(&part.plain).is_empty(), "blank")?;
        ensure(!has_active_mention(&part.body, PlatformKind::Discord), "mention")?;
        ensure(!has_active_mention(&part.plain, PlatformKind::Discord), "mention in plain")?;
        ensure(part.body.matches("```").count() % 2 == 0, "fence left open")?;
        let endless = |line: &str| line.trim_start_matches("> ").trim_start().starts_with(">>>");
        let outside = part.body.split("```").step_by(2);
        ensure(!outside.flat_map(str::lines).any(endless), "quote without end")?;
    }
    let wanted = words(&document);
    let plain: Vec<&str> = rendered.iter().map(|part| part.plain.as_str()).collect();
    holds(&plain.concat(), &wanted)?;
    let all: Vec<&str> = rendered.iter().map(|part| part.body.as_str()).collect();
    holds(&all.concat(), &wanted)
}
