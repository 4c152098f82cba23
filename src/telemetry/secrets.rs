//! What Herald itself holds and must not show: one list, read by the log's writer and by the guard.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use secrecy::{ExposeSecret, SecretString};
use url::Url;

/// How many stay known that the settings do not hold, or hold no longer: the contents of token files as they were read,
/// and what was changed. A token that Kubernetes writes anew each hour is long expired when it is forgotten.
const OTHERS: usize = 32;

/// The secrets that are known. Cloning it shares it: what one clone is told, all know.
#[derive(Clone, Default)]
pub struct OwnSecrets(Arc<RwLock<Known>>);

#[derive(Default)]
struct Known {
    /// Those of the settings.
    settings: Vec<SecretString>,
    /// The others, the newest last.
    others: VecDeque<SecretString>,
    /// All of them, the longest first, so that none is cut by one that is a part of it.
    all: Arc<[SecretString]>,
}

impl OwnSecrets {
    /// Those and no others yet.
    #[must_use]
    pub fn new(settings: &[SecretString]) -> Self {
        let secrets = Self::default();
        secrets.set(settings);
        secrets
    }

    /// What the settings hold from now on. Old ones stay known for a while: they may still be valid somewhere.
    pub fn set(&self, settings: &[SecretString]) {
        let settings: Vec<_> = settings.iter().map(bare).collect();
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for old in std::mem::replace(&mut known.settings, settings) {
            if !among(&known.settings, &old) {
                known.remember(old);
            }
        }
        known.gather();
    }

    /// One more, such as what was just read from a token's file.
    pub fn keep(&self, secret: &SecretString) {
        let secret = bare(secret);
        // Files are read again and again; hardly ever is there anything new in them.
        let newest = |known: &Known| known.others.back().is_some_and(|it| same(it, &secret));
        if newest(&self.0.read().unwrap_or_else(PoisonError::into_inner)) {
            return;
        }
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        known.remember(secret);
        known.gather();
    }

    /// All of them, the longest first. As long as none is new it is the same list.
    #[must_use]
    pub fn all(&self) -> Arc<[SecretString]> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner).all)
    }
}

impl Known {
    fn remember(&mut self, secret: SecretString) {
        self.others.retain(|it| !same(it, &secret));
        self.others.push_back(secret);
        if self.others.len() > OTHERS {
            self.others.pop_front();
        }
    }

    fn gather(&mut self) {
        let mut all: Vec<SecretString> = Vec::new();
        for secret in self.settings.iter().chain(&self.others) {
            if !secret.expose_secret().is_empty() && !among(&all, secret) {
                all.push(secret.clone());
            }
        }
        let stay = all.len() == self.all.len() && all.iter().all(|it| among(&self.all, it));
        if !stay {
            all.sort_by_key(|it| std::cmp::Reverse(it.expose_secret().len()));
            self.all = all.into();
        }
    }
}

fn same(one: &SecretString, other: &SecretString) -> bool {
    one.expose_secret() == other.expose_secret()
}

fn among(secrets: &[SecretString], secret: &SecretString) -> bool {
    secrets.iter().any(|it| same(it, secret))
}

/// Without what is written around a token in a file or a header.
fn bare(secret: &SecretString) -> SecretString {
    let text = secret.expose_secret().trim();
    text.strip_prefix("Bearer ").unwrap_or(text).trim().to_owned().into()
}

/// A URL's password, as it is written there and as it is meant.
#[must_use]
pub fn in_url(url: &Url) -> Vec<SecretString> {
    let Some(written) = url.password() else { return Vec::new() };
    let form = format!("p={}", written.replace('+', "%2B"));
    let meant = url::form_urlencoded::parse(form.as_bytes()).next();
    let meant = meant.map(|(_, value)| value.into_owned());
    std::iter::once(written.to_owned()).chain(meant).map(SecretString::from).collect()
}

/// The same for what may lack the `http://`, as a proxy's address may.
#[must_use]
pub fn in_address(text: &str) -> Vec<SecretString> {
    let text = text.trim();
    let url =
        if text.contains("://") { Url::parse(text) } else { Url::parse(&format!("http://{text}")) };
    url.map_or_else(|_| Vec::new(), |url| in_url(&url))
}

/// Says nothing about them.
impl fmt::Debug for OwnSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnSecrets").finish_non_exhaustive()
    }
}

/// Settings are no others because of what is known besides.
impl PartialEq for OwnSecrets {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for OwnSecrets {}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(secrets: &OwnSecrets) -> Vec<String> {
        secrets.all().iter().map(|it| it.expose_secret().to_owned()).collect()
    }

    #[test]
    fn what_was_changed_stays_known_and_clones_know_it_too() {
        let secrets = OwnSecrets::new(&["Bearer old".into(), "the-same".into()]);
        let clone = secrets.clone();
        clone.keep(&"from-a-file\n".into());
        secrets.set(&["new".into(), "the-same".into()]);
        assert_eq!(shown(&clone), ["from-a-file", "the-same", "new", "old"], "the longest first");
        let before = secrets.all();
        secrets.keep(&"old".into());
        secrets.set(&["the-same".into(), "new".into()]);
        assert!(Arc::ptr_eq(&before, &secrets.all()), "nothing is new");
        assert_eq!(format!("{secrets:?}"), "OwnSecrets { .. }");
    }

    #[test]
    fn files_that_change_for_ever_fill_no_memory_and_drive_no_setting_out() {
        let secrets = OwnSecrets::new(&["a-setting".into()]);
        for n in 0..1000 {
            secrets.keep(&format!("token-{n}").into());
            secrets.keep(&"a-file-that-stays".into());
        }
        let known = shown(&secrets);
        assert_eq!(known.len(), OTHERS + 1);
        for still in ["a-setting", "a-file-that-stays", "token-999", "token-980"] {
            assert!(known.contains(&still.to_owned()), "{still}");
        }
    }

    #[test]
    fn a_password_in_a_url_is_known_in_both_ways() {
        let of = |url: &str| {
            let found = in_url(&url.parse().unwrap());
            found.iter().map(|it| it.expose_secret().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(of("https://ada:p%40ss+word@proxy/"), ["p%40ss+word", "p@ss+word"]);
        assert!(of("https://ada@proxy/?key=1").is_empty());
        for address in ["ada:p4ssword@proxy:3128", " http://ada:p4ssword@proxy:3128 "] {
            let found = in_address(address);
            assert!(found.iter().all(|it| it.expose_secret() == "p4ssword"), "{address}");
            assert_eq!(found.len(), 2, "{address}");
        }
        assert!(in_address("proxy:3128").is_empty());
    }
}
