//! Hosts: which one an address leads to, whether two are the same, and how one is shown that could be taken for another.

use unicode_security::{RestrictionLevel, RestrictionLevelDetection as _, skeleton};
use url::{Host, Url};

/// Names that are nobody's to buy, and yet are written as hosts (RFC 2606, 6761, 6762, 7686, 9476; ICANN's `internal`).
const SPECIAL: [&str; 9] =
    ["alt", "example", "home", "internal", "invalid", "lan", "local", "onion", "test"];

/// Longer ones are nobody's (RFC 1035).
pub(super) const LONGEST: usize = 253;

/// Where an address leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// The hosts, as the network knows them: one for a page; of a letter, one for each who receives it.
    pub hosts: Vec<String>,
    /// Whom a letter goes to.
    pub letter: bool,
    /// The address told plainly, where it is not told plainly: without a user's name, a deceptive host in punycode.
    pub plain: Option<Plain>,
}

/// What had to be done to tell an address plainly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plain {
    pub address: String,
    pub user: bool,
    pub punycode: bool,
}

impl Target {
    /// Nothing where no client could follow the address.
    pub fn of(address: &str) -> Option<Self> {
        let mut url = Url::parse(address).ok()?;
        if url.scheme() == "mailto" {
            let receivers = url.query_pairs().filter(|(name, _)| {
                ["to", "cc", "bcc"].iter().any(|field| name.eq_ignore_ascii_case(field))
            });
            let receivers: Vec<String> = receivers.map(|(_, value)| value.into_owned()).collect();
            let hosts = std::iter::once(url.path())
                .chain(receivers.iter().map(String::as_str))
                .flat_map(|list| list.split([',', ';']))
                .filter(|receiver| !receiver.trim().is_empty())
                .map(|receiver| {
                    let host = receiver.rsplit_once('@').map_or("", |(_, host)| host);
                    named(host.trim_end_matches(['>', ' '])).unwrap_or_default()
                })
                .collect();
            return Some(Self { hosts, letter: true, plain: None });
        }
        let host = host_of(&url)?;
        let user = !url.username().is_empty() || url.password().is_some();
        let punycode = deceptive(&host) && !authority(address).eq_ignore_ascii_case(&host);
        let plain = (user || punycode).then(|| {
            // Neither fails for an address that has a host.
            let _ = url.set_username("");
            let _ = url.set_password(None);
            Plain { address: url.to_string(), user, punycode }
        });
        Some(Self { hosts: vec![host], letter: false, plain })
    }

    /// Whether this is the host it leads to, and the only one.
    pub fn is(&self, host: &str) -> bool {
        !self.hosts.is_empty() && self.hosts.iter().all(|own| bare(own) == bare(host))
    }
}

/// The host of an address as it is written, without its port.
fn authority(address: &str) -> &str {
    let rest = address.split_once(':').map_or("", |(_, rest)| rest).trim_start_matches(['/', '\\']);
    let authority = rest.split(['/', '\\', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    host.split(':').next().unwrap_or_default().trim_end_matches('.')
}

/// The host of an address, lower case, in punycode, without full stops at its end.
fn host_of(url: &Url) -> Option<String> {
    let host = url.host_str()?.trim_end_matches('.');
    (!host.is_empty()).then(|| host.to_owned())
}

/// A host as somebody wrote it, as the network knows it.
pub(super) fn named(written: &str) -> Option<String> {
    if written.is_empty() || written.len() > 4 * LONGEST {
        return None;
    }
    let host = host_of(&Url::parse(&format!("http://{written}")).ok()?)?;
    (host.len() <= LONGEST).then_some(host)
}

/// `www.` alone makes no other host.
pub(super) fn bare(host: &str) -> &str {
    host.strip_prefix("www.").unwrap_or(host)
}

/// Whether a name that stands without a scheme would be taken for a host: by people, and by clients that make links.
pub(super) fn known(host: &str) -> bool {
    match Host::parse(host) {
        Ok(Host::Domain(_)) => host.rsplit_once('.').is_some_and(|(before, last)| {
            !before.is_empty() && (tld::exist(last) || SPECIAL.contains(&last))
        }),
        Ok(Host::Ipv4(_)) => true,
        _ => false,
    }
}

/// A host as it is shown: in the letters of its language, unless these could be taken for others.
pub(super) fn shown(host: &str) -> String {
    let unicode = if host.contains("xn--") && !deceptive(host) {
        url::quirks::domain_to_unicode(host)
    } else {
        String::new()
    };
    if unicode.is_empty() { host.to_owned() } else { unicode }
}

/// Whether a host, in punycode, could be read as another one in Unicode: a label of it mixes scripts, or it is all of
/// letters that look like ASCII, or something in it looks like what ends a host.
///
/// By Unicode's report on security (<https://www.unicode.org/reports/tr39/>): labels must be highly restrictive.
pub(super) fn deceptive(host: &str) -> bool {
    host.split('.').filter(|label| label.starts_with("xn--")).any(|label| {
        let label = url::quirks::domain_to_unicode(label);
        if label.is_empty() || label.is_ascii() {
            return false;
        }
        let looks: String = skeleton(&label).collect();
        // Letters of their own in Danish, French and Icelandic, although they look like ASCII.
        let own = |c: char| c.is_ascii() || matches!(c, 'æ' | 'œ' | 'þ');
        label.detect_restriction_level() > RestrictionLevel::HighlyRestrictive
            || (looks.is_ascii() && !label.chars().all(own))
            || (label.contains(|c: char| c.is_ascii_alphanumeric()) && looks.contains(ENDS))
    })
}

/// What ends a host, or a part of it.
const ENDS: [char; 7] = ['/', '\\', '.', ':', '?', '#', '@'];

/// What a character looks like, where that is something which would part an address.
pub(super) fn looks_like(c: char, before: Option<char>) -> char {
    match c {
        // To a client a backslash is a slash.
        '\\' => return '/',
        c if c.is_ascii() => return c,
        '\u{3002}' | '\u{ff61}' => return '.',
        '\u{ff3c}' => return '/',
        '\u{ff01}'..='\u{ff5e}' => {
            return char::from_u32(u32::from(c) - 0xfee0).unwrap_or(c);
        }
        // A letter is read as a letter, but not in the midst of ASCII.
        c if c.is_alphanumeric() && !before.is_some_and(|c| c.is_ascii_alphanumeric()) => return c,
        _ => {}
    }
    let mut bytes = [0; 4];
    let mut looks = skeleton(c.encode_utf8(&mut bytes));
    match (looks.next(), looks.next()) {
        (Some('\\'), None) => '/',
        (Some(sign), None) if ENDS.contains(&sign) => sign,
        _ => c,
    }
}

/// The domains that links may lead to.
pub(super) struct Domains(Vec<String>);

impl Domains {
    pub fn of(list: &[String]) -> Self {
        let names = list.iter().filter_map(|domain| named(domain.trim_start_matches("*.")));
        Self(names.map(|domain| bare(&domain).to_owned()).collect())
    }

    /// Whether a host is one of them or below one of them.
    pub fn hold(&self, host: &str) -> bool {
        let host = bare(host);
        let named = matches!(Host::parse(host), Ok(Host::Domain(_)));
        self.0.iter().any(|domain| {
            host.strip_suffix(domain.as_str())
                .is_some_and(|rest| rest.is_empty() || (named && rest.ends_with('.')))
        })
    }

    /// Whether an address leads to these alone.
    pub fn hold_all(&self, target: Option<&Target>) -> bool {
        target.is_some_and(|target| {
            !target.hosts.is_empty() && target.hosts.iter().all(|host| self.hold(host))
        })
    }
}
