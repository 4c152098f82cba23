//! The issuer's public keys: where they come from, and which of them are known now (RFC 7517).
//!
//! They are read when the first token needs them, and again when they are old or a token names one that is not known,
//! at most once in a while however many tokens do. Who does not answer takes no key away.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ::http::{Method, StatusCode};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::Value;
use tokio::io::AsyncReadExt;
use tokio::sync::Semaphore;
use url::Url;

use crate::clock::Timestamp;
use crate::platform::http::{self, HttpClient};
use crate::telemetry::OwnSecrets;

/// For how long keys are believed: a key that the issuer takes back opens nothing after that.
pub(super) const FRESH: Duration = Duration::from_secs(10 * 60);

/// The shortest time between two readings, whoever asks for them. Longer than a reading takes, so that there is one at
/// a time.
pub(super) const PAUSE: Duration = Duration::from_secs(10);

/// How many tokens may wait for a reading: strangers' wait like anybody's, and an issuer that does not answer must not make
/// them hold the places of those whose keys are known.
pub(super) const WAITING: usize = 64;

/// How long the issuer has to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The most bytes that all keys have together.
const LARGEST: usize = 256 * 1024;

/// The longest token of our own that is shown to the issuer.
const LONGEST_TOKEN: usize = 64 * 1024;

/// Where the keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// A file, such as a mounted `ConfigMap`.
    File(PathBuf),
    /// A server.
    Server {
        url: Url,
        /// Its certificate authority, if it is none that everybody trusts.
        ca_file: Option<PathBuf>,
        /// A file with a bearer token for it.
        token_file: Option<PathBuf>,
        /// Learns what that file holds.
        known: OwnSecrets,
    },
}

/// The keys cannot be read. Whose words it repeats are the operator's and the system's, never the issuer's.
#[derive(Debug, thiserror::Error)]
enum Unreadable {
    #[error("{path}: {error}")]
    File { path: PathBuf, error: std::io::Error },
    #[error("{0} is larger than {1} bytes")]
    Large(PathBuf, usize),
    #[error(transparent)]
    Setup(#[from] http::SetupError),
    #[error("{0}")]
    Transport(#[from] http::TransportError),
    #[error("it answered {0}")]
    Status(StatusCode),
    #[error("it holds more than {LARGEST} bytes")]
    Endless,
    #[error("it holds no set of keys: {{\"keys\": […]}}")]
    NotKeys,
}

impl Source {
    async fn read(&self) -> Result<Vec<Key>, Unreadable> {
        let document = match self {
            Self::File(path) => file(path, LARGEST).await?,
            Self::Server { url, ca_file, token_file, known } => {
                // Made anew each time, so that a certificate authority is changed without a restart.
                let http = HttpClient::new(&http::Settings {
                    connect_timeout: PATIENCE,
                    total_timeout: PATIENCE,
                    ca_bundle: ca_file.clone(),
                    ..http::Settings::default()
                })?;
                let mut request = http.request(Method::GET, url.clone());
                if let Some(path) = token_file {
                    let token = file(path, LONGEST_TOKEN).await?;
                    let token = SecretString::from(String::from_utf8_lossy(&token).into_owned());
                    known.keep(&token);
                    request = http::authorization(request, "Bearer", token.expose_secret());
                }
                let answered = http.send_for(request, LARGEST).await?;
                if !answered.answer.status.is_success() {
                    return Err(Unreadable::Status(answered.answer.status));
                }
                if answered.cut {
                    return Err(Unreadable::Endless);
                }
                answered.answer.body
            }
        };
        read_keys(&document).ok_or(Unreadable::NotKeys)
    }

    /// The setting and what it says, for the log.
    fn named(&self) -> String {
        match self {
            Self::File(path) => format!("mcp.jwt.jwks_file {}", path.display()),
            Self::Server { url, .. } => {
                format!("mcp.jwt.jwks_url on {}", url.host_str().unwrap_or_default())
            }
        }
    }
}

async fn file(path: &Path, most: usize) -> Result<Vec<u8>, Unreadable> {
    let unreadable = |error| Unreadable::File { path: path.to_owned(), error };
    let file = tokio::fs::File::open(path).await.map_err(unreadable)?;
    let mut bytes = Vec::new();
    let one_more = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    file.take(one_more).read_to_end(&mut bytes).await.map_err(unreadable)?;
    if bytes.len() > most {
        return Err(Unreadable::Large(path.to_owned(), most));
    }
    Ok(bytes)
}

/// A public key, and what it may be used for.
struct Key {
    id: Option<String>,
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

/// The keys of a document, without those that are for something else; `None` if it is no set of keys.
fn read_keys(document: &[u8]) -> Option<Vec<Key>> {
    #[derive(Deserialize)]
    struct Document {
        keys: Vec<Value>,
    }
    let document: Document = serde_json::from_slice(document).ok()?;
    Some(document.keys.into_iter().filter_map(read_key).collect())
}

fn read_key(value: Value) -> Option<Key> {
    let jwk: Jwk = serde_json::from_value(value).ok()?;
    let common = &jwk.common;
    if common.public_key_use.as_ref().is_some_and(|purpose| *purpose != PublicKeyUse::Signature) {
        return None;
    }
    let operations = common.key_operations.as_ref();
    if operations.is_some_and(|operations| !operations.contains(&KeyOperations::Verify)) {
        return None;
    }
    let mut algorithms = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => AlgorithmFamily::Rsa.algorithms().to_vec(),
        AlgorithmParameters::EllipticCurve(key) => match key.curve {
            EllipticCurve::P256 => vec![Algorithm::ES256],
            EllipticCurve::P384 => vec![Algorithm::ES384],
            _ => return None,
        },
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            vec![Algorithm::EdDSA]
        }
        // A shared secret is no public key.
        _ => return None,
    };
    if let Some(only) = common.key_algorithm {
        let only = Algorithm::try_from(only).ok()?;
        algorithms.retain(|algorithm| *algorithm == only);
    }
    let key = DecodingKey::from_jwk(&jwk).ok()?;
    (!algorithms.is_empty()).then_some(Key { id: jwk.common.key_id, algorithms, key })
}

type Reading = Shared<BoxFuture<'static, ()>>;

/// The keys that are known now.
pub(super) struct Keys {
    source: Source,
    state: Mutex<State>,
    waiting: Semaphore,
}

/// Why there is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoKey {
    /// None that is known is the one.
    Unknown,
    /// It may become known, and too many wait for that.
    Crowd,
}

#[derive(Default)]
struct State {
    keys: Vec<Key>,
    /// When the last reading that worked began.
    read: Option<Timestamp>,
    /// When the last reading began.
    tried: Option<Timestamp>,
    /// The last reading did not work.
    failing: bool,
    reading: Option<Reading>,
}

impl State {
    /// The key of this name; without a name, the only one that fits.
    fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Option<DecodingKey> {
        let mut fitting = self.keys.iter().filter(|key| {
            key.algorithms.contains(&algorithm) && (id.is_none() || key.id.as_deref() == id)
        });
        let found = fitting.next()?;
        fitting.next().is_none().then(|| found.key.clone())
    }
}

impl Keys {
    pub(super) fn new(source: Source) -> Arc<Self> {
        let waiting = Semaphore::new(WAITING);
        Arc::new(Self { source, state: Mutex::default(), waiting })
    }

    pub(super) const fn source(&self) -> &Source {
        &self.source
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The key that a token of this header has to be signed with. Waits for a reading only where that may help.
    pub(super) async fn find(
        self: &Arc<Self>,
        id: Option<&str>,
        algorithm: Algorithm,
        now: Timestamp,
    ) -> Result<DecodingKey, NoKey> {
        let reading = {
            let mut state = self.state();
            let known = state.find(id, algorithm);
            if let Some(known) = &known
                && recent(state.read, now, FRESH)
            {
                return Ok(known.clone());
            }
            if !recent(state.tried, now, PAUSE) {
                state.tried = Some(now);
                state.reading = Some(self.start_reading(now));
            }
            if let Some(known) = known
                && state.failing
            {
                // Callers shall not wait for an issuer that is away.
                return Ok(known);
            }
            state.reading.clone()
        };
        if let Some(reading) = reading
            && reading.peek().is_none()
        {
            let _place = self.waiting.try_acquire().map_err(|_| NoKey::Crowd)?;
            reading.await;
        }
        self.state().find(id, algorithm).ok_or(NoKey::Unknown)
    }

    /// A reading ends by itself, so that whoever asks and leaves keeps nobody else from it.
    fn start_reading(self: &Arc<Self>, now: Timestamp) -> Reading {
        let keys = Arc::clone(self);
        let reading = tokio::spawn(async move {
            let read = keys.source.read().await;
            let mut state = keys.state();
            state.failing = read.is_err();
            match read {
                Ok(keys) => {
                    state.keys = keys;
                    state.read = Some(now);
                }
                Err(error) => {
                    let (source, known) = (keys.source.named(), state.keys.len());
                    tracing::warn!(
                        known,
                        "the public keys for JWTs cannot be read from {source}: {error}; those known still count"
                    );
                }
            }
        });
        reading.map(|_| ()).boxed().shared()
    }
}

/// Less than `span` ago. What lies in the future does not count: the clock was set back.
fn recent(then: Option<Timestamp>, now: Timestamp, span: Duration) -> bool {
    then.is_some_and(|then| then <= now && now.since(then) < span)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Points on the curve are only looked at when a signature is checked.
    fn point(id: Option<&str>) -> Value {
        let mut key = json!({"kty": "EC", "crv": "P-256", "x": "AAAA", "y": "AAAA"});
        if let Some(id) = id {
            key["kid"] = id.into();
        }
        key
    }

    fn set(keys: &[Value]) -> String {
        json!({ "keys": keys }).to_string()
    }

    fn with(mut key: Value, name: &str, value: Value) -> Value {
        key[name] = value;
        key
    }

    #[test]
    fn a_key_is_for_what_it_says() {
        let usable = |key: &Value| {
            let keys = read_keys(set(std::slice::from_ref(key)).as_bytes()).unwrap();
            keys.into_iter().next().map(|key| key.algorithms)
        };
        let rsa = json!({"kty": "RSA", "n": "AQAB", "e": "AQAB"});
        let edwards = json!({"kty": "OKP", "crv": "Ed25519", "x": "AAAA"});
        assert_eq!(usable(&rsa).unwrap().len(), 6);
        assert_eq!(usable(&point(None)), Some(vec![Algorithm::ES256]));
        assert_eq!(usable(&with(point(None), "crv", json!("P-384"))), Some(vec![Algorithm::ES384]));
        assert_eq!(usable(&edwards), Some(vec![Algorithm::EdDSA]));
        for (name, value) in
            [("alg", json!("RS256")), ("use", json!("sig")), ("key_ops", json!(["verify"]))]
        {
            assert!(usable(&with(rsa.clone(), name, value)).unwrap().contains(&Algorithm::RS256));
        }
        assert_eq!(usable(&with(rsa.clone(), "alg", json!("RS256"))), Some(vec![Algorithm::RS256]));
        for useless in [
            json!({"kty": "oct", "k": "c2VjcmV0"}),
            json!({"kty": "oct", "k": "c2VjcmV0", "alg": "RS256"}),
            with(rsa.clone(), "use", json!("enc")),
            with(rsa.clone(), "key_ops", json!(["encrypt"])),
            with(rsa.clone(), "alg", json!("HS256")),
            with(rsa.clone(), "alg", json!("RSA-OAEP")),
            with(rsa.clone(), "alg", json!("ES256")),
            with(rsa, "n", json!("not base64!")),
            with(point(None), "crv", json!("P-521")),
            with(point(None), "crv", json!("secp256k1")),
            with(edwards, "crv", json!("X25519")),
            json!({"kty": "AKP", "alg": "ML-DSA-44", "pub": "AAAA"}),
            json!("a key"),
        ] {
            assert_eq!(usable(&useless), None, "{useless}");
        }
    }

    #[test]
    fn an_odd_key_does_not_spoil_the_others() {
        let keys = read_keys(set(&[json!(1), point(Some("a")), json!({})]).as_bytes()).unwrap();
        assert_eq!(keys.len(), 1);
        for wrong in ["", "[]", "{}", r#"{"keys": {}}"#] {
            assert!(read_keys(wrong.as_bytes()).is_none(), "{wrong}");
        }
    }

    #[test]
    fn a_key_goes_by_its_name_and_without_one_by_being_the_only_one() {
        let find = |keys: &[Value], id, algorithm| {
            let keys = read_keys(set(keys).as_bytes()).unwrap();
            State { keys, ..State::default() }.find(id, algorithm).is_some()
        };
        let two = [point(Some("a")), point(Some("b"))];
        assert!(find(&two, Some("a"), Algorithm::ES256));
        assert!(!find(&two, Some("a"), Algorithm::RS256), "another type");
        assert!(!find(&two, Some("c"), Algorithm::ES256));
        assert!(!find(&two, None, Algorithm::ES256), "which of them?");
        assert!(find(&two[..1], None, Algorithm::ES256));
        assert!(find(&[point(None)], None, Algorithm::ES256));
        assert!(!find(&[point(None)], Some("a"), Algorithm::ES256));
    }

    #[tokio::test]
    async fn a_file_is_read_again_when_it_is_old_or_a_key_is_missing() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let write = |ids: &[&str]| {
            let keys: Vec<_> = ids.iter().map(|id| point(Some(id))).collect();
            std::fs::write(file.path(), set(&keys)).unwrap();
        };
        let keys = Keys::new(Source::File(file.path().to_owned()));
        let known = async |id, now| keys.find(Some(id), Algorithm::ES256, now).await.is_ok();
        let start = Timestamp(1_000_000_000);

        write(&["a"]);
        assert!(known("a", start).await);
        write(&["b"]);
        assert!(known("a", start.after(FRESH / 2)).await, "believed for a while");
        assert!(known("b", start.after(FRESH / 2)).await, "looked for");
        assert!(!known("a", start.after(FRESH / 2)).await, "taken back");

        let later = start.after(FRESH);
        write(&["c"]);
        assert!(known("b", later).await, "believed for a while");
        assert!(!known("b", later.after(FRESH)).await, "old, read again and gone");
        assert!(known("c", later.after(FRESH)).await);

        write(&["d"]);
        assert!(!known("d", later.after(FRESH)).await, "not twice at once");
        assert!(known("d", start).await, "a clock that was set back does not stop it");
    }

    #[tokio::test]
    async fn what_cannot_be_read_takes_no_key_away() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), set(&[point(Some("a"))])).unwrap();
        let keys = Keys::new(Source::File(file.path().to_owned()));
        let known = async |now| keys.find(Some("a"), Algorithm::ES256, now).await.is_ok();
        let mut now = Timestamp(1_000_000_000);
        assert!(known(now).await);
        for broken in ["", "{}", &" ".repeat(LARGEST + 1)] {
            std::fs::write(file.path(), broken).unwrap();
            now = now.after(FRESH);
            assert!(known(now).await);
        }
        std::fs::write(file.path(), set(&[])).unwrap();
        // The first who asks after a failure does not wait for the answer; whoever asks then has it.
        now = now.after(FRESH);
        assert!(known(now).await);
        let reading = keys.state().reading.clone().unwrap();
        reading.await;
        assert!(!known(now).await, "the issuer took it back");
    }
}
