//! The named clients, and what each of them may show: tokens, known by their digests alone, and subjects of JWTs.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::model::ClientName;
use crate::policy::UNNAMED;

/// How many tokens a client has at most: the old one and the new one.
const TOKENS: usize = 2;

/// How to make a hash; `echo` would hash the end of the line too.
const RECIPE: &str = "printf %s \"$TOKEN\" | sha256sum";

/// What the recipe makes of a `TOKEN` that is not set, what `echo` makes of it, and of what stands in the manifests instead.
const OF_NOTHING: [&[u8]; 3] = [b"", b"\n", b"replace-me"];

/// The named clients' credentials.
pub type Clients = BTreeMap<ClientName, Credentials>;

/// What a client shows to be known. It needs a token or a subject.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Credentials {
    /// The hashes of one or two bearer tokens, as `sha256:` and what `printf %s "$TOKEN" | sha256sum` prints. With two,
    /// a token is changed without an interruption.
    #[schemars(length(max = 2))]
    pub tokens: Vec<TokenHash>,
    /// The subjects of its JWTs, such as `system:serviceaccount:kagent:k8s-agent`. Needs `mcp.jwt`.
    pub subjects: Vec<String>,
}

/// `sha256:` and 64 hexadecimal digits. Kept as a secret, because it might be the token itself, put there by mistake.
#[derive(Clone, Debug, Deserialize)]
#[serde(transparent)]
pub struct TokenHash(SecretString);

impl TokenHash {
    /// A hash as it is written.
    pub fn new(text: impl Into<String>) -> Self {
        Self(SecretString::from(text.into()))
    }

    fn digest(&self) -> Option<[u8; 32]> {
        let digits = self.0.expose_secret().trim().strip_prefix("sha256:")?.trim();
        if digits.len() != 64 {
            return None;
        }
        let mut digest = [0; 32];
        for (byte, pair) in digest.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).ok()?;
            // `from_str_radix` would take a sign.
            if !pair.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return None;
            }
            *byte = u8::from_str_radix(pair, 16).ok()?;
        }
        Some(digest)
    }
}

impl JsonSchema for TokenHash {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "TokenHash".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^sha256:[0-9a-fA-F]{64}$" })
    }
}

/// Who is who.
pub(super) struct Register {
    tokens: Vec<([u8; 32], ClientName)>,
    subjects: BTreeMap<String, ClientName>,
}

impl Register {
    /// The named clients, and `default` by `token`.
    ///
    /// # Errors
    /// One sentence about the setting that is wrong. It never shows what stands in place of a hash.
    pub(super) fn new(token: Option<&SecretString>, clients: &Clients) -> Result<Self, String> {
        let mut register = Self { tokens: Vec::new(), subjects: BTreeMap::new() };
        if let Some(token) = token {
            register.tokens.push((digest_of(token)?, ClientName::new("default")));
        }
        for (name, credentials) in clients {
            check_name(name.as_str())?;
            register.enter(name, credentials).map_err(|error| format!("clients.{name}{error}"))?;
        }
        Ok(register)
    }

    fn enter(&mut self, name: &ClientName, credentials: &Credentials) -> Result<(), String> {
        let Credentials { tokens, subjects } = credentials;
        if tokens.is_empty() && subjects.is_empty() {
            return Err(format!(
                ": give it `tokens` (sha256:… as printed by: {RECIPE}) or `subjects` (of JWTs), or nobody can be it"
            ));
        }
        if tokens.len() > TOKENS {
            return Err(format!(
                ".tokens: {} are too many: at most two, the old one and the new one",
                tokens.len()
            ));
        }
        for (hash, number) in tokens.iter().zip(1..) {
            let digest = hash.digest().ok_or_else(|| {
                format!(
                    ".tokens: number {number} is not `sha256:` and 64 hexadecimal digits: write what this prints: {RECIPE}"
                )
            })?;
            if OF_NOTHING.iter().any(|nothing| Sha256::digest(nothing).as_slice() == digest) {
                return Err(format!(
                    ".tokens: number {number} is the hash of nothing: set TOKEN first, then: {RECIPE}"
                ));
            }
            if let Some((_, other)) = self.tokens.iter().find(|(known, _)| *known == digest) {
                return Err(format!(
                    ".tokens: number {number} is a token of the client `{other}` already: each token belongs to one client, \
                     once"
                ));
            }
            self.tokens.push((digest, name.clone()));
        }
        for subject in subjects {
            let shown: String = subject.chars().filter(|c| !c.is_control()).take(128).collect();
            if subject.is_empty() || subject.trim() != subject || shown.len() != subject.len() {
                return Err(format!(
                    ".subjects: `{shown}` is not the subject of a JWT, such as system:serviceaccount:kagent:k8s-agent"
                ));
            }
            if let Some(other) = self.subjects.insert(subject.clone(), name.clone()) {
                return Err(format!(
                    ".subjects: {shown} is the client `{other}` already: each subject belongs to one client, once"
                ));
            }
        }
        Ok(())
    }

    /// Nobody is in it.
    pub(super) fn is_empty(&self) -> bool {
        self.tokens.is_empty() && self.subjects.is_empty()
    }

    /// One of the clients that are known by their subjects.
    pub(super) fn any_by_subject(&self) -> Option<&ClientName> {
        self.subjects.values().next()
    }

    /// Whose token it is.
    pub(super) fn by_token(&self, token: &str) -> Option<ClientName> {
        let digest = Sha256::digest(token.as_bytes());
        // Every token is compared, so that the time taken tells nothing.
        let mut client = None;
        for (known, name) in &self.tokens {
            if bool::from(known.ct_eq(digest.as_slice())) {
                client = Some(name);
            }
        }
        client.cloned()
    }

    /// Whose subject it is.
    pub(super) fn by_subject(&self, subject: &str) -> Option<ClientName> {
        self.subjects.get(subject).cloned()
    }
}

fn check_name(name: &str) -> Result<(), String> {
    let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-._".contains(c);
    if name.is_empty() || name.len() > 64 || !name.chars().all(fine) {
        let shown: String = name.chars().filter(|c| !c.is_control()).take(80).collect();
        return Err(format!(
            "clients: `{shown}` is not a client's name: 1 to 64 of a-z, 0-9, `-`, `.` and `_`, such as k8s-agent"
        ));
    }
    if UNNAMED.contains(&name) {
        return Err(format!(
            "clients.{name}: the name is taken ({} are): choose another, such as {name}-agent",
            UNNAMED.join(", ")
        ));
    }
    Ok(())
}

fn digest_of(token: &SecretString) -> Result<[u8; 32], String> {
    let token = token.expose_secret().trim();
    let token = match token.split_once(char::is_whitespace) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
        _ if token.eq_ignore_ascii_case("bearer") => "",
        _ => token,
    };
    if token.is_empty() || !token.bytes().all(|b| b.is_ascii_graphic()) {
        return Err("HERALD_TOKEN has to be a word of printable ASCII characters without spaces, \
                    such as the output of `openssl rand -hex 32`"
            .to_owned());
    }
    Ok(Sha256::digest(token.as_bytes()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(token: &str) -> TokenHash {
        TokenHash::new(format!("sha256:{:x}", Sha256::digest(token)))
    }

    fn with_tokens(tokens: &[TokenHash]) -> Credentials {
        Credentials { tokens: tokens.to_vec(), subjects: Vec::new() }
    }

    fn with_subjects(subjects: &[&str]) -> Credentials {
        Credentials {
            tokens: Vec::new(),
            subjects: subjects.iter().map(|&subject| subject.to_owned()).collect(),
        }
    }

    fn clients<const N: usize>(clients: [(&str, Credentials); N]) -> Clients {
        clients.map(|(name, credentials)| (ClientName::new(name), credentials)).into()
    }

    fn error<const N: usize>(named: [(&str, Credentials); N]) -> String {
        let token = SecretString::from("s3cret");
        Register::new(Some(&token), &clients(named)).err().expect("it is accepted")
    }

    #[test]
    fn a_client_is_known_by_either_of_its_tokens_and_by_no_other() {
        let named = clients([
            ("k8s", with_tokens(&[hash("old"), hash("new")])),
            ("helm", with_tokens(&[TokenHash::new(format!("sha256:{:X}\n", Sha256::digest("h")))])),
        ]);
        let token = SecretString::from("s3cret");
        let register = Register::new(Some(&token), &named).unwrap();
        for (token, name) in [
            ("old", Some("k8s")),
            ("new", Some("k8s")),
            ("h", Some("helm")),
            ("s3cret", Some("default")),
            ("ol", None),
            ("", None),
        ] {
            let client = register.by_token(token);
            assert_eq!(client.as_ref().map(ClientName::as_str), name, "{token}");
        }
    }

    #[test]
    fn a_hash_is_what_sha256sum_prints() {
        // printf %s token | sha256sum
        let printed = "3c469e9d6c5875d37a43f353d4f88e61fcf812c66eee3457465a40b0da4153e0";
        assert_eq!(
            TokenHash::new(format!("sha256:{printed}")).digest(),
            Some(Sha256::digest("token").into())
        );
    }

    #[test]
    fn what_is_no_hash_names_the_client_and_the_recipe_and_is_not_shown() {
        let digits = format!("{:x}", Sha256::digest("x"));
        let signed = format!("sha256:+{}", digits.split_at(1).1);
        for wrong in ["canary", "sha256:canary", "", &digits, &signed, &format!("sha256:{digits}0")]
        {
            let error = error([("k8s", with_tokens(&[hash("a"), TokenHash::new(wrong)]))]);
            for word in ["clients.k8s.tokens", "number 2", "sha256:", "64", "printf %s"] {
                assert!(error.contains(word), "{error}");
            }
            assert!(!error.contains("canary") && !error.contains(digits.split_at(1).1), "{error}");
        }
        assert!(!format!("{:?}", TokenHash::new("canary")).contains("canary"));
    }

    #[test]
    fn the_hash_of_nothing_opens_nothing() {
        for nothing in ["", "\n"] {
            let error = error([("k8s", with_tokens(&[hash(nothing)]))]);
            assert!(error.contains("clients.k8s") && error.contains("hash of nothing"), "{error}");
        }
    }

    #[test]
    fn a_token_belongs_to_one_client_once() {
        let three = with_tokens(&[hash("a"), hash("b"), hash("c")]);
        assert!(error([("k8s", three)]).contains("at most two"));
        let error_of_two =
            error([("a", with_tokens(&[hash("x")])), ("b", with_tokens(&[hash("x")]))]);
        assert!(error_of_two.contains("clients.b.tokens") && error_of_two.contains("client `a`"));
        assert!(error([("a", with_tokens(&[hash("x"), hash("x")]))]).contains("client `a`"));
        assert!(error([("a", with_tokens(&[hash("s3cret")]))]).contains("client `default`"));
    }

    #[test]
    fn a_subject_belongs_to_one_client_once() {
        let agent = "system:serviceaccount:kagent:k8s-agent";
        let named = clients([("k8s", with_subjects(&[agent, "other"]))]);
        let register = Register::new(None, &named).unwrap();
        assert_eq!(register.by_subject(agent), Some(ClientName::new("k8s")));
        assert_eq!(register.by_subject("system:serviceaccount:kagent:k8s"), None);
        let error_of_two = error([("a", with_subjects(&[agent])), ("b", with_subjects(&[agent]))]);
        assert!(error_of_two.contains("clients.b.subjects") && error_of_two.contains("client `a`"));
        for wrong in ["", " x", "a\nb"] {
            let error = error([("a", with_subjects(&[wrong]))]);
            assert!(error.contains("clients.a.subjects") && error.contains("system:"), "{error}");
        }
    }

    #[test]
    fn a_client_has_a_plain_name_and_something_to_show() {
        for wrong in ["", "K8s", "a b", "a/b", "ü", "a\nb", &"a".repeat(65)] {
            let error = error([(wrong, with_tokens(&[hash("a")]))]);
            assert!(error.contains("1 to 64") && !error.contains('\n'), "{error}");
        }
        for taken in UNNAMED {
            let error = error([(taken, with_tokens(&[hash("a")]))]);
            assert!(error.contains(&format!("clients.{taken}: the name is taken")), "{error}");
        }
        assert!(error([("k8s", Credentials::default())]).contains("nobody can be it"));
        let fine = clients([(&*"a".repeat(64), with_tokens(&[hash("a")]))]);
        assert!(Register::new(None, &fine).is_ok());
    }

    #[test]
    fn a_token_that_nobody_could_send_is_refused() {
        for token in ["", "  ", "Bearer ", "two words", "tab\tbed", "naïve"] {
            let error = digest_of(&SecretString::from(token)).unwrap_err();
            assert!(error.contains("HERALD_TOKEN"), "{error}");
            assert!(token.trim().is_empty() || !error.contains(token), "{error}");
        }
    }
}
