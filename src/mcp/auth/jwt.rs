//! JWTs as bearer tokens: which are accepted, and whom they name (RFC 7519, RFC 8725). Covers the tokens of an OAuth
//! authorization server and those that Kubernetes projects into Pods.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Validation, decode, decode_header};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use url::{Host, Url};

use super::jwks::{Keys, NoKey, Source};
use super::signature;
use crate::clock::Timestamp;
use crate::telemetry::OwnSecrets;

/// The most leeway that clocks are given, in seconds.
const MOST_LEEWAY: u32 = 60;

const ISSUER: &str = "HERALD_JWT_ISSUER (mcp.jwt.issuer)";
const AUDIENCE: &str = "HERALD_JWT_AUDIENCE (mcp.jwt.audience)";
const JWKS_URL: &str = "HERALD_JWKS_URL (mcp.jwt.jwks_url)";

/// Which JWTs are accepted besides tokens. Off without an issuer. Whom a JWT names, the clients' `subjects` say.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Jwt")]
pub struct Config {
    /// Who issues them: exactly what stands in `iss`, such as `https://kubernetes.default.svc.cluster.local`.
    pub issuer: Option<String>,
    /// Whom they have to be for: one or several values of which `aud` has to hold one.
    #[serde(deserialize_with = "one_or_several")]
    #[schemars(with = "OneOrSeveral")]
    pub audience: Vec<String>,
    /// Where the issuer's public keys are: `https://kubernetes.default.svc/openid/v1/jwks`.
    pub jwks_url: Option<Url>,
    /// A file with the issuer's public keys, instead.
    pub jwks_file: Option<PathBuf>,
    /// A PEM file with the certificate authority of `jwks_url`, such as
    /// `/var/run/secrets/kubernetes.io/serviceaccount/ca.crt`.
    pub ca_file: Option<PathBuf>,
    /// A file with a bearer token for `jwks_url`, read each time: Kubernetes asks for one.
    pub token_file: Option<PathBuf>,
    /// Learns what that file holds.
    #[serde(skip)]
    #[schemars(skip)]
    pub known: OwnSecrets,
    /// How they may be signed. Default: RS256, ES256.
    pub algorithms: Vec<Algorithm>,
    /// By how many seconds clocks may differ, up to 60. Default: 30.
    pub leeway_seconds: u32,
    /// The claim that names the client. Default: `sub`.
    pub client_claim: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            issuer: None,
            audience: Vec::new(),
            jwks_url: None,
            jwks_file: None,
            ca_file: None,
            token_file: None,
            known: OwnSecrets::default(),
            algorithms: vec![Algorithm::Rs256, Algorithm::Es256],
            leeway_seconds: 30,
            client_claim: "sub".to_owned(),
        }
    }
}

/// How a token may be signed: with a private key of which Herald knows the public half.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
#[schemars(rename = "JwtAlgorithm")]
pub enum Algorithm {
    /// RSA, PKCS #1 v1.5, SHA-256.
    Rs256,
    /// RSA, PKCS #1 v1.5, SHA-384.
    Rs384,
    /// RSA, PKCS #1 v1.5, SHA-512.
    Rs512,
    /// RSA, PSS, SHA-256.
    Ps256,
    /// RSA, PSS, SHA-384.
    Ps384,
    /// RSA, PSS, SHA-512.
    Ps512,
    /// ECDSA on P-256.
    Es256,
    /// ECDSA on P-384.
    Es384,
    /// Ed25519.
    #[serde(rename = "EdDSA")]
    EdDsa,
}

impl From<Algorithm> for jsonwebtoken::Algorithm {
    fn from(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Rs256 => Self::RS256,
            Algorithm::Rs384 => Self::RS384,
            Algorithm::Rs512 => Self::RS512,
            Algorithm::Ps256 => Self::PS256,
            Algorithm::Ps384 => Self::PS384,
            Algorithm::Ps512 => Self::PS512,
            Algorithm::Es256 => Self::ES256,
            Algorithm::Es384 => Self::ES384,
            Algorithm::EdDsa => Self::EdDSA,
        }
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
enum OneOrSeveral {
    One(String),
    Several(Vec<String>),
}

fn one_or_several<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Ok(match OneOrSeveral::deserialize(deserializer)? {
        OneOrSeveral::One(value) => vec![value],
        OneOrSeveral::Several(values) => values,
    })
}

impl Config {
    /// Whether JWTs are accepted.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.issuer.is_some()
    }

    fn source(&self) -> Result<Source, String> {
        match (&self.jwks_url, &self.jwks_file) {
            (Some(url), None) => {
                if !url.username().is_empty() || url.password().is_some() {
                    return Err(format!(
                        "{JWKS_URL}: a password has no place in the URL: use token_file"
                    ));
                }
                let loopback = match url.host() {
                    Some(Host::Domain(name)) => name == "localhost",
                    Some(Host::Ipv4(address)) => address.is_loopback(),
                    Some(Host::Ipv6(address)) => address.is_loopback(),
                    None => false,
                };
                if url.scheme() != "https" && !(loopback && url.scheme() == "http") {
                    return Err(format!(
                        "{JWKS_URL}: whoever can change these keys can be any client: write https://…, with ca_file for a \
                         certificate authority of your own, or mount the keys and name them in jwks_file"
                    ));
                }
                Ok(Source::Server {
                    url: url.clone(),
                    ca_file: self.ca_file.clone(),
                    token_file: self.token_file.clone(),
                    known: self.known.clone(),
                })
            }
            (None, Some(_)) if self.ca_file.is_some() || self.token_file.is_some() => {
                Err("mcp.jwt: ca_file and token_file belong to jwks_url, and a file needs neither"
                    .to_owned())
            }
            (None, Some(path)) => Ok(Source::File(path.clone())),
            _ => Err(format!(
                "{JWKS_URL}: give the issuer's public keys, either as jwks_url, such as \
                 https://kubernetes.default.svc/openid/v1/jwks, or as jwks_file"
            )),
        }
    }

    /// # Errors
    /// One sentence about the setting that is wrong.
    pub(super) fn verifier(&self) -> Result<Option<Verifier>, String> {
        if *self == Self::default() {
            return Ok(None);
        }
        let issuer = self.issuer.as_deref().unwrap_or_default();
        if issuer.is_empty() || issuer.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(format!(
                "{ISSUER}: write exactly what stands in the tokens' `iss`, such as \
                 https://kubernetes.default.svc.cluster.local"
            ));
        }
        if self.audience.is_empty() || self.audience.iter().any(|value| value.trim().is_empty()) {
            return Err(format!(
                "{AUDIENCE}: name whom the tokens are for, such as `herald`: without it, a token made for any other server \
                 would do"
            ));
        }
        if self.algorithms.is_empty() {
            return Err("mcp.jwt.algorithms: name one at least, such as RS256".to_owned());
        }
        if self.leeway_seconds > MOST_LEEWAY {
            return Err(format!(
                "mcp.jwt.leeway_seconds: {} is more than {MOST_LEEWAY}: set the clocks right instead",
                self.leeway_seconds
            ));
        }
        if self.client_claim.trim().is_empty() {
            return Err("mcp.jwt.client_claim: name a claim, such as sub or azp".to_owned());
        }
        signature::install();
        Ok(Some(Verifier {
            issuer: issuer.to_owned(),
            audience: self.audience.clone(),
            algorithms: self.algorithms.iter().map(|&algorithm| algorithm.into()).collect(),
            leeway: f64::from(self.leeway_seconds),
            client_claim: self.client_claim.clone(),
            keys: Keys::new(self.source()?),
        }))
    }
}

/// Why a JWT is refused. Only the log tells: strangers learn nothing from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Flaw {
    #[error("it is no JWT")]
    Malformed,
    #[error("its algorithm is not in mcp.jwt.algorithms")]
    Algorithm,
    #[error("no known key is the one it names")]
    UnknownKey,
    #[error("too many wait for the issuer's keys")]
    Crowd,
    #[error("the signature is wrong")]
    Signature,
    #[error(
        "a claim is missing or malformed: iss, aud, exp and the claim in mcp.jwt.client_claim are needed"
    )]
    Claims,
    #[error("its issuer is not the one in mcp.jwt.issuer")]
    Issuer,
    #[error("its audience is not in mcp.jwt.audience")]
    Audience,
    #[error("it has expired")]
    Expired,
    #[error("it is not valid yet")]
    Early,
}

impl Flaw {
    /// The issuer signed it: not a stranger, but a setting or a client that needs somebody's attention.
    const fn is_genuine(self) -> bool {
        match self {
            Self::Malformed
            | Self::Algorithm
            | Self::UnknownKey
            | Self::Crowd
            | Self::Signature => false,
            Self::Claims | Self::Issuer | Self::Audience | Self::Expired | Self::Early => true,
        }
    }
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    exp: f64,
    nbf: Option<f64>,
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

/// Tells whom a JWT names.
pub(super) struct Verifier {
    issuer: String,
    audience: Vec<String>,
    algorithms: Vec<jsonwebtoken::Algorithm>,
    leeway: f64,
    client_claim: String,
    keys: Arc<Keys>,
}

impl Verifier {
    pub(super) fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Keeps the keys that `before` knew, if they come from the same place: the issuer may be away just now.
    pub(super) fn keep_keys(&mut self, before: &Self) {
        if self.keys.source() == before.keys.source() {
            self.keys = Arc::clone(&before.keys);
        }
    }

    /// The subject of a token that is good now.
    pub(super) async fn verify(&self, token: &str, now: Timestamp) -> Result<String, Flaw> {
        let header = decode_header(token).map_err(|_| Flaw::Malformed)?;
        if !self.algorithms.contains(&header.alg) {
            return Err(Flaw::Algorithm);
        }
        // What has to be understood (RFC 7515, 4.1.11), nothing here understands.
        if header.crit.is_some() {
            return Err(Flaw::Malformed);
        }
        let (id, algorithm) = (header.kid.as_deref(), header.alg);
        let key = self.keys.find(id, algorithm, now).await.map_err(|why| match why {
            NoKey::Unknown => Flaw::UnknownKey,
            NoKey::Crowd => Flaw::Crowd,
        })?;
        let mut validation = Validation::new(algorithm);
        validation.set_audience(&self.audience);
        validation.set_required_spec_claims(&["aud"]);
        // These two take the machine's clock: they are compared below.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        let checked = decode::<Claims>(token, &key, &validation)
            .map_err(|error| match error.kind() {
                ErrorKind::Json(_) | ErrorKind::MissingRequiredClaim(_) => Flaw::Claims,
                ErrorKind::InvalidAudience => Flaw::Audience,
                ErrorKind::InvalidSignature => Flaw::Signature,
                _ => Flaw::Malformed,
            })
            .and_then(|token| self.check(token.claims, now));
        if let Err(flaw) = checked
            && flaw.is_genuine()
        {
            // The key is one that is known, and so is its ID.
            tracing::warn!(kid = id.unwrap_or_default(), "a JWT is refused: {flaw}");
        }
        checked
    }

    fn check(&self, mut claims: Claims, now: Timestamp) -> Result<String, Flaw> {
        if claims.iss != self.issuer {
            return Err(Flaw::Issuer);
        }
        let now = seconds(now);
        if now >= claims.exp + self.leeway {
            return Err(Flaw::Expired);
        }
        if claims.nbf.is_some_and(|from| now < from - self.leeway) {
            return Err(Flaw::Early);
        }
        match claims.others.remove(&self.client_claim) {
            Some(Value::String(subject)) if !subject.is_empty() => Ok(subject),
            _ => Err(Flaw::Claims),
        }
    }
}

/// As JWTs count: seconds since the Unix epoch.
fn seconds(time: Timestamp) -> f64 {
    std::time::Duration::from_millis(u64::try_from(time.0).unwrap_or(0)).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Config, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    const FINE: &str = r#"{"issuer": "https://i", "audience": "herald", "jwks_file": "/keys"}"#;

    fn error(change: impl FnOnce(&mut Config)) -> String {
        let mut config = read(FINE).unwrap();
        change(&mut config);
        config.verifier().err().expect("it is accepted")
    }

    #[test]
    fn it_is_off_unless_it_is_set() {
        assert!(Config::default().verifier().unwrap().is_none());
        assert!(read(FINE).unwrap().verifier().unwrap().is_some());
        for one in [
            Config { issuer: None, ..read(FINE).unwrap() },
            Config { audience: vec!["herald".to_owned()], ..Config::default() },
            Config { jwks_file: Some("/keys".into()), ..Config::default() },
        ] {
            assert!(one.verifier().err().unwrap().contains("HERALD_JWT_ISSUER"), "{one:?}");
        }
    }

    #[test]
    fn an_audience_is_one_or_several_and_needed() {
        assert_eq!(read(FINE).unwrap().audience, ["herald"]);
        assert_eq!(read(r#"{"audience": ["a", "b"]}"#).unwrap().audience, ["a", "b"]);
        assert!(error(|config| config.audience.clear()).contains("HERALD_JWT_AUDIENCE"));
        assert!(
            error(|config| config.audience.push(" ".to_owned())).contains("HERALD_JWT_AUDIENCE")
        );
    }

    #[test]
    fn no_setting_makes_a_shared_secret_or_no_signature_count() {
        assert_eq!(read("{}").unwrap().algorithms, [Algorithm::Rs256, Algorithm::Es256]);
        let known = read(r#"{"algorithms": ["PS512", "ES384", "EdDSA"]}"#).unwrap().algorithms;
        assert_eq!(known, [Algorithm::Ps512, Algorithm::Es384, Algorithm::EdDsa]);
        for wrong in ["none", "HS256", "HS512", "ES256K", ""] {
            let error = read(&format!(r#"{{"algorithms": ["{wrong}"]}}"#)).unwrap_err();
            assert!(error.contains("expected one of `RS256`"), "{error}");
        }
        assert!(error(|config| config.algorithms.clear()).contains("mcp.jwt.algorithms"));
    }

    #[test]
    fn the_keys_come_from_one_place_that_can_be_trusted() {
        let from = |url: &str| {
            let mut config = read(FINE).unwrap();
            (config.jwks_url, config.jwks_file) = (Url::parse(url).ok(), None);
            config
        };
        for fine in ["https://i/keys", "http://127.0.0.1:1/k", "http://[::1]/k", "http://localhost"]
        {
            assert!(from(fine).verifier().is_ok(), "{fine}");
        }
        for wrong in ["http://i/keys", "http://127.0.0.1.example/", "ftp://127.0.0.1/", "file:///k"]
        {
            let error = from(wrong).verifier().err().expect(wrong);
            assert!(error.contains("HERALD_JWKS_URL") && error.contains("https://"), "{error}");
        }
        let error_of_password = from("https://u:canary@i/").verifier().err().unwrap();
        assert!(error_of_password.contains("token_file") && !error_of_password.contains("canary"));
        let both = error(|config| config.jwks_url = Url::parse("https://i/keys").ok());
        assert!(both.contains("either as jwks_url"), "{both}");
        assert!(error(|config| config.jwks_file = None).contains("HERALD_JWKS_URL"));
        assert!(error(|config| config.ca_file = Some("/ca".into())).contains("belong to jwks_url"));
    }

    #[test]
    fn the_rest_has_its_limits() {
        assert!(error(|config| config.leeway_seconds = 61).contains("set the clocks right"));
        assert!(error(|config| config.client_claim = String::new()).contains("client_claim"));
        for wrong in ["", "two words", "https://i\n"] {
            let error = error(|config| config.issuer = Some(wrong.to_owned()));
            assert!(error.contains("HERALD_JWT_ISSUER"), "{error}");
        }
    }
}
