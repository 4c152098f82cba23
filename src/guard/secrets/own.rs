//! Herald's own secrets, whatever a text makes of them.

use std::borrow::Cow;
use std::fmt;

use aho_corasick::Anchored;
use aho_corasick::automaton::Automaton as _;
use aho_corasick::dfa::DFA;
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use secrecy::{ExposeSecret, SecretString};

/// Shorter secrets would block ordinary words, as in the log ([`crate::telemetry`]).
const SHORTEST: usize = 8;
/// Of longer ones their last bytes are looked for: of a JWT that is its signature, which no other token has, and memory goes
/// by the length.
const LONGEST: usize = 128;
/// Percent signs in percent signs in percent signs are read this deep.
const DEEPEST: usize = 3;

/// Finds Herald's own secrets: its tokens, signing secrets, passwords.
///
/// A text and a secret are compared by their ASCII letters and digits alone, in lower case. So a secret is found that white
/// space, characters without width, Markdown or any other signs split, that stands in capitals or in hexadecimal, and that
/// is in base64 of any alphabet, padded or not, alone or in the middle of something longer.
pub struct Own {
    /// Letters and digits of what each secret may be written as.
    bones: Needles,
    /// Secrets that hardly have any, as they are but for white space and Markdown's signs.
    signs: Needles,
}

/// Strings that are searched for all at once, in any case. `None`, which takes gigabytes of secrets, is in everything.
struct Needles(Option<DFA>);

impl Own {
    /// Those of `secrets` that have 8 bytes or more, apart from white space and Markdown's signs.
    #[must_use]
    pub fn new(secrets: &[SecretString]) -> Self {
        let (mut bones, mut signs) = (Vec::new(), Vec::new());
        for secret in secrets {
            let secret = secret.expose_secret().trim();
            let end = secret.as_bytes().rchunks(LONGEST).next().unwrap_or_default();
            let loose = without_padding(&String::from_utf8_lossy(end));
            if loose.len() < SHORTEST {
                continue;
            }
            let plain = bones_of(end);
            if plain.len() < SHORTEST {
                signs.push(loose)
            } else {
                bones.push(plain)
            }
            bones.push(hex(end));
            let encoded = (0..3).map(|before| base64_behind(before, end));
            bones.extend(encoded.filter(|bones| bones.len() >= SHORTEST));
        }
        Self { bones: Needles::new(&bones), signs: Needles::new(&signs) }
    }

    /// Whether one of them is in `text`.
    #[must_use]
    pub fn is_in(&self, text: &str) -> bool {
        let mut text = Cow::Borrowed(text.as_bytes());
        for _ in 0..DEEPEST {
            if self.stands_in(&text) {
                return true;
            }
            match percent_decoded(&text) {
                Some(decoded) => text = Cow::Owned(decoded),
                None => return false,
            }
        }
        self.stands_in(&text)
    }

    fn stands_in(&self, text: &[u8]) -> bool {
        self.bones.are_in(text.iter().copied().filter(u8::is_ascii_alphanumeric))
            || (!self.signs.are_none()
                && self.signs.are_in(without_padding(&String::from_utf8_lossy(text))))
    }
}

impl Needles {
    fn new(needles: &[Vec<u8>]) -> Self {
        Self(DFA::builder().ascii_case_insensitive(true).build(needles).ok())
    }

    fn are_none(&self) -> bool {
        self.0.as_ref().is_some_and(|needles| needles.patterns_len() == 0)
    }

    /// Whether one of them stands in these bytes, which are read one by one and never gathered.
    fn are_in(&self, bytes: impl IntoIterator<Item = u8>) -> bool {
        let Some(needles) = &self.0 else { return true };
        let Ok(mut state) = needles.start_state(Anchored::No) else { return true };
        bytes.into_iter().any(|byte| {
            state = needles.next_state(Anchored::No, state, byte);
            needles.is_match(state)
        })
    }
}

/// Says nothing about them.
impl fmt::Debug for Own {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Own").finish_non_exhaustive()
    }
}

/// The ASCII letters and digits of a text, in lower case.
fn bones_of(text: &[u8]) -> Vec<u8> {
    let mut bones = Vec::with_capacity(text.len());
    bones.extend(text.iter().filter(|byte| byte.is_ascii_alphanumeric()));
    bones.make_ascii_lowercase();
    bones
}

/// Without what shows nothing: white space, characters of no width, signs that Markdown takes for its own.
fn without_padding(text: &str) -> Vec<u8> {
    let invisible = |c: char| {
        c.is_whitespace()
            || matches!(c, '*' | '_' | '`' | '\\' | '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}'..='\u{2064}' | '\u{feff}')
    };
    text.chars().filter(|c| !invisible(*c)).collect::<String>().into_bytes()
}

fn hex(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect()
}

/// The letters and digits that `secret` has in base64 of something longer, with `before` bytes in front of it, modulo 3.
/// Characters that also depend on its neighbours are left out.
fn base64_behind(before: usize, secret: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; before];
    bytes.extend_from_slice(secret);
    let whole = bytes.len() * 8 / 6;
    let encoded = STANDARD_NO_PAD.encode(bytes).into_bytes();
    let inner: Vec<u8> = encoded.into_iter().take(whole).skip((before * 8).div_ceil(6)).collect();
    bones_of(&inner)
}

/// A text with its `%41` read once; `None` where it has none.
fn percent_decoded(text: &[u8]) -> Option<Vec<u8>> {
    if !text.contains(&b'%') {
        return None;
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, left @ ..] = rest {
        let digit =
            |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        rest = match (first, left) {
            (b'%', [high, low, behind @ ..])
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                decoded.push(digit(*high)? << 4 | digit(*low)?);
                behind
            }
            _ => {
                decoded.push(*first);
                left
            }
        };
    }
    (decoded.len() < text.len()).then_some(decoded)
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
    use proptest::prelude::*;

    use super::*;

    fn own(secret: &str) -> Own {
        Own::new(&[SecretString::from(secret.to_owned())])
    }

    const TOKEN: &str = "xoxb-2345_canary/0+QuietWater";

    #[test]
    fn a_secret_is_found_as_it_is_and_in_every_disguise() {
        let own = own(TOKEN);
        let hex: String = TOKEN.bytes().map(|byte| format!("{byte:02X}")).collect();
        for text in [
            TOKEN.to_owned(),
            format!("the token is `{TOKEN}`."),
            TOKEN.to_uppercase(),
            STANDARD.encode(TOKEN),
            URL_SAFE_NO_PAD.encode(format!("user:{TOKEN}")),
            "%78oxb%2D2345%5Fcanary%2f0%2BQuietWater".to_owned(),
            "xoxb%252D2345%255Fcanary%252F0%252BQuietWater".to_owned(),
            "xoxb-2345\n_canary /0+\tQuiet\u{a0}Water".to_owned(),
            "xoxb\u{200b}-2345_can\u{2060}ary/0+Quiet\u{ad}Water".to_owned(),
            "**xoxb-2345**\\_canary/`0`+Quiet__Water".to_owned(),
            hex.clone(),
            hex.as_bytes()
                .chunks(2)
                .map(|two| std::str::from_utf8(two).unwrap())
                .collect::<Vec<_>>()
                .join(":"),
        ] {
            assert!(own.is_in(&text), "{text}");
        }
        assert!(!own.is_in("xoxb-2345_canary/0+QuietWate"), "all but a letter");
        assert!(!own.is_in("100% of xoxb tokens, 2345 canaries, quiet water"));
    }

    #[test]
    fn short_ones_and_signs_do_not_block_everything() {
        let own = own("pass");
        assert!(!own.is_in("pass the salt"));
        let own = super::Own::new(&[
            SecretString::from("!?-=§$%&/()".to_owned()),
            SecretString::from("        ab".to_owned()),
            SecretString::from("пароль от всего".to_owned()),
        ]);
        assert!(own.is_in("it is !?-= §$%&/() as always"));
        assert!(own.is_in("пароль\u{200b}отвсего"));
        assert!(!own.is_in("ab, and §$%&/() alone"));
        assert!(!Own::new(&[]).is_in("anything %41"));
    }

    #[test]
    fn a_long_one_is_known_by_its_end() {
        let jwt = |end: &str| format!("eyJhbGciOiJSUzI1NiJ9.{}.{end}", "eyJpc3MiOiJr".repeat(100));
        let own = own(&jwt(&"c1Gnature".repeat(20)));
        assert!(own.is_in(&jwt(&"c1Gnature".repeat(20))));
        assert!(own.is_in(&STANDARD.encode(jwt(&"c1Gnature".repeat(20)))));
        assert!(!own.is_in(&jwt(&"another1".repeat(20))), "the cluster's other tokens begin alike");
    }

    #[test]
    fn it_shows_nothing() {
        assert_eq!(format!("{:?}", own(TOKEN)), "Own { .. }");
    }

    /// A way to write it.
    fn disguised(secret: &str, before: &str, behind: &str, way: u8, every: usize) -> String {
        let around = format!("{before}{secret}{behind}");
        let split = |by: &str| {
            let signs: Vec<char> = secret.chars().collect();
            signs.chunks(every).map(String::from_iter).collect::<Vec<_>>().join(by)
        };
        match way {
            0 => around,
            1 => STANDARD.encode(around),
            2 => URL_SAFE.encode(around),
            3 => STANDARD_NO_PAD.encode(around),
            4 => URL_SAFE_NO_PAD.encode(around),
            5 => around.bytes().map(|byte| format!("%{byte:02x}")).collect(),
            6 => split("\n"),
            7 => split(" \u{200b}"),
            8 => split("**"),
            9 => split("\\_`"),
            10 => around.bytes().map(|byte| format!("{byte:02X} ")).collect(),
            11 => STANDARD
                .encode(around)
                .as_bytes()
                .chunks(every)
                .map(String::from_utf8_lossy)
                .collect::<Vec<_>>()
                .join("\n"),
            _ => url::form_urlencoded::byte_serialize(around.as_bytes()).collect(),
        }
    }

    proptest! {
        #[test]
        fn a_random_secret_is_found_however_it_is_written(
            secret in "[!-)+-Z^a-~]{10,60}",
            (before, behind) in ("[ -~é]{0,20}", "[ -~é]{0,20}"),
            way in 0_u8..13,
            every in 1_usize..8,
        ) {
            let own = own(&secret);
            let text = disguised(&secret, &before, &behind, way, every);
            prop_assert!(own.is_in(&format!("look: {text} :there")), "{text}");
            let without = format!("{before} {behind}");
            prop_assert!(!own.is_in(&without));
        }
    }
}
