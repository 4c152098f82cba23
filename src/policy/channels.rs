//! Allow-lists: `C0123456789,alerts=C0987654321` or `*`.

use std::fmt;

use crate::model::{ChannelId, InvalidChannel, PlatformKind};

/// A channel that may be used, and the operator's short name for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// The channel.
    pub channel: ChannelId,
    /// Its alias.
    pub alias: Option<String>,
}

/// The channels of one platform that may be used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowList {
    any: bool,
    listed: Vec<Allowed>,
}

/// An entry of an allow-list cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAllowList {
    /// The ID is malformed.
    #[error(transparent)]
    Channel(#[from] InvalidChannel),
    /// The alias is malformed.
    #[error("`{0}` cannot be an alias: use letters, digits, `-`, `_` and `.`, at most 64 of them")]
    Alias(String),
    /// Two channels have one alias.
    #[error("the alias `{0}` is given twice")]
    Twice(String),
}

impl AllowList {
    /// Allows nothing.
    pub const NONE: Self = Self { any: false, listed: Vec::new() };

    /// Reads entries: an ID, `alias=ID`, or `*` for any channel the bot is in. Blank entries are skipped.
    ///
    /// # Errors
    /// When an entry is malformed; the error quotes it.
    pub fn parse<'a>(
        platform: PlatformKind,
        entries: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, InvalidAllowList> {
        let mut list = Self::NONE;
        for entry in entries.into_iter().map(str::trim).filter(|entry| !entry.is_empty()) {
            match entry.split_once('=') {
                Some((alias, id)) => list.add(platform, Some(alias.trim()), id)?,
                None => list.add(platform, None, entry)?,
            }
        }
        Ok(list)
    }

    /// Lists one more: an ID, or `*`.
    pub(super) fn add(
        &mut self,
        platform: PlatformKind,
        alias: Option<&str>,
        id: &str,
    ) -> Result<(), InvalidAllowList> {
        if alias.is_none() && id == "*" {
            self.any = true;
            return Ok(());
        }
        let channel = ChannelId::new(platform, id)?;
        if let Some(alias) = alias {
            if !is_alias(alias) {
                return Err(InvalidAllowList::Alias(alias.chars().take(64).collect()));
            }
            if self.by_alias(alias).is_some() {
                return Err(InvalidAllowList::Twice(alias.to_owned()));
            }
        }
        self.listed.push(Allowed { channel, alias: alias.map(str::to_owned) });
        Ok(())
    }

    /// Whether every channel the bot is in may be used.
    #[must_use]
    pub const fn any(&self) -> bool {
        self.any
    }

    /// The channels listed by name.
    #[must_use]
    pub fn listed(&self) -> &[Allowed] {
        &self.listed
    }

    /// Whether `channel` may be used.
    #[must_use]
    pub fn contains(&self, channel: &ChannelId) -> bool {
        self.any || self.listed.iter().any(|allowed| allowed.channel == *channel)
    }

    /// The channel with this alias.
    #[must_use]
    pub fn by_alias(&self, alias: &str) -> Option<&ChannelId> {
        self.listed.iter().find(|a| a.alias.as_deref() == Some(alias)).map(|a| &a.channel)
    }
}

fn is_alias(alias: &str) -> bool {
    (1..=64).contains(&alias.len())
        && alias.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// One clause for error messages and tool descriptions: `you may use: C0ALERTS (alerts), C0GENERAL`.
impl fmt::Display for AllowList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.any {
            return f.write_str("you may use any channel the bot is in, by its ID");
        }
        if self.listed.is_empty() {
            return f.write_str("no channel is allowed: the operator has to list it");
        }
        f.write_str("you may use: ")?;
        for (n, allowed) in self.listed.iter().enumerate() {
            if n > 0 {
                f.write_str(", ")?;
            }
            f.write_str(allowed.channel.id())?;
            if let Some(alias) = &allowed.alias {
                write!(f, " ({alias})")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_that_cannot_be_read_is_quoted() {
        for (entry, quoted) in [
            ("#general", "#general"),
            ("a b=C0ALERTS", "a b"),
            ("x=C01,x=C02", "`x` is given twice"),
        ] {
            let error = AllowList::parse(PlatformKind::Slack, entry.split(',')).unwrap_err();
            assert!(error.to_string().contains(quoted), "{error}");
        }
    }
}
