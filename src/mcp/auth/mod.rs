//! Who is calling: a bearer token or a JWT, and who may call without one.
//!
//! The [`Gate`] stands in front of `/mcp`. What lies behind it sees the client's name, and nothing of what it showed.

mod jwks;
pub mod jwt;
mod metadata;
mod signature;
mod tokens;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use tokio::sync::watch;

use self::jwt::{Flaw, Verifier};
use self::metadata::{Refusal, Resource};
use self::tokens::Register;
pub use self::tokens::{Clients, Credentials, TokenHash};
use super::Config;
use crate::clock::{Clock, Timestamp};
use crate::model::ClientName;
use crate::model::audit::{Act, Entry, Refused};
use crate::store::trail::Scribe;

/// The longest token that is looked at, in bytes. Those of large directories hold a few thousand.
const LONGEST: usize = 16 * 1024;

/// Who sent a request. Set here and nowhere else, read by the tools.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Principal(pub(super) ClientName);

/// Refuses to serve `/mcp` to the network without authentication, unless the operator asked for that.
///
/// # Errors
/// One sentence that names the settings.
pub fn check_exposure(
    config: &Config,
    clients: &Clients,
    listen: SocketAddr,
) -> Result<(), String> {
    let authenticated = config.token.is_some() || !clients.is_empty() || config.jwt.is_on();
    if authenticated || config.allow_anonymous || listen.ip().is_loopback() {
        return Ok(());
    }
    Err(format!(
        "{listen} is reachable from other machines: set HERALD_TOKEN, name `clients` in the configuration file, or set \
         HERALD_ALLOW_ANONYMOUS=true to serve /mcp without authentication"
    ))
}

/// Knows who may come in.
pub struct Door {
    register: Register,
    jwt: Option<Verifier>,
    resource: Option<Resource>,
    allow_anonymous: bool,
}

impl Door {
    /// The door that these settings make. Reads no file and calls nobody.
    ///
    /// # Errors
    /// One sentence about the setting that is wrong.
    pub fn new(config: &Config, clients: &Clients) -> Result<Self, String> {
        let register = Register::new(config.token.as_ref(), clients)?;
        let jwt = config.jwt.verifier()?;
        if let (None, Some(client)) = (&jwt, register.any_by_subject()) {
            return Err(format!(
                "clients.{client}.subjects: nobody can show them before mcp.jwt (HERALD_JWT_ISSUER) says which JWTs count"
            ));
        }
        let resource = match (&jwt, &config.public_url) {
            (Some(jwt), Some(url)) => Some(Resource::new(url, jwt.issuer())?),
            _ => None,
        };
        Ok(Self { register, jwt, resource, allow_anonymous: config.allow_anonymous })
    }

    /// There is something to show.
    fn is_guarded(&self) -> bool {
        !self.register.is_empty() || self.jwt.is_some()
    }

    async fn enter(&self, headers: &HeaderMap, now: Timestamp) -> Result<ClientName, Refusal> {
        if !self.is_guarded() {
            return Ok(ClientName::new("anonymous"));
        }
        let mut given = headers.get_all(header::AUTHORIZATION).iter();
        let Some(value) = given.next() else {
            return if self.allow_anonymous {
                Ok(ClientName::new("anonymous"))
            } else {
                Err(Refusal::Missing)
            };
        };
        if given.next().is_some() {
            return Err(Refusal::Invalid);
        }
        let token = bearer(value)?;
        if token.len() > LONGEST {
            return Err(Refusal::Invalid);
        }
        if let Some(client) = self.register.by_token(token) {
            return Ok(client);
        }
        let jwt = self.jwt.as_ref().ok_or(Refusal::Invalid)?;
        let subject = jwt.verify(token, now).await.map_err(|flaw| match flaw {
            Flaw::Crowd => Refusal::Later,
            _ => Refusal::Invalid,
        })?;
        self.register.by_subject(&subject).ok_or_else(|| {
            let subject: String = subject.chars().take(128).collect();
            tracing::warn!(?subject, "a JWT is refused: its subject is no client's");
            Refusal::Stranger
        })
    }
}

/// The token of `Bearer <token>`. Another scheme shows no token.
fn bearer(value: &HeaderValue) -> Result<&str, Refusal> {
    let value = value.to_str().map_err(|_| Refusal::Invalid)?;
    match value.split_once(' ').unwrap_or((value, "")) {
        (scheme, token) if scheme.eq_ignore_ascii_case("bearer") => Ok(token.trim()),
        _ => Err(Refusal::Missing),
    }
}

/// The door as it is now. Cloning it shares it: what [`Gate::replace`] puts there counts from the next request on.
#[derive(Clone)]
pub struct Gate {
    door: watch::Sender<Arc<Door>>,
    clock: Arc<dyn Clock>,
    scribe: Option<Arc<Scribe>>,
}

impl Gate {
    /// A gate with this door. JWTs expire by `clock`.
    #[must_use]
    pub fn new(door: Door, clock: Arc<dyn Clock>) -> Self {
        Self { door: watch::Sender::new(Arc::new(door)), clock, scribe: None }
    }

    /// The same; who is not let in is written down, and nothing of what they showed.
    #[must_use]
    pub fn written_down_by(self, scribe: Arc<Scribe>) -> Self {
        Self { scribe: Some(scribe), ..self }
    }

    async fn refused(&self, peer: Option<IpAddr>, client: Option<ClientName>, why: Refused) {
        if let Some(scribe) = &self.scribe {
            scribe.refused(Entry { peer, client, ..Entry::new(Act::Denied) }.refused(why)).await;
        }
    }

    /// Puts another door there. Requests that are in stay in; the issuer's keys that are known stay known.
    ///
    /// # Errors
    /// When a change of the settings would let everybody in without saying so; the door stays as it is.
    pub fn replace(&self, mut door: Door) -> Result<(), String> {
        let before = self.door();
        if before.is_guarded() && !door.is_guarded() && !door.allow_anonymous {
            return Err(
                "no token, client or JWT issuer is left, and everybody would get in: those there were still count. To \
                 serve /mcp without authentication, set HERALD_ALLOW_ANONYMOUS=true"
                    .to_owned(),
            );
        }
        if let (Some(jwt), Some(before)) = (&mut door.jwt, &before.jwt) {
            jwt.keep_keys(before);
        }
        self.door.send_replace(Arc::new(door));
        Ok(())
    }

    fn door(&self) -> Arc<Door> {
        Arc::clone(&self.door.borrow())
    }
}

/// The middleware in front of `/mcp`.
pub(super) async fn authenticate(
    State(gate): State<Gate>,
    mut request: Request,
    next: Next,
) -> Response {
    let door = gate.door();
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip());
    match door.enter(request.headers(), gate.clock.now()).await {
        Ok(client) => {
            // The token ends here, so that nothing behind the door could pass it on.
            request.headers_mut().remove(header::AUTHORIZATION);
            request.extensions_mut().insert(Principal(client.clone()));
            let answer = next.run(request).await;
            // Neither is said by a tool: those answer in words.
            match answer.status() {
                StatusCode::FORBIDDEN => gate.refused(peer, Some(client), Refused::Origin).await,
                StatusCode::TOO_MANY_REQUESTS => {
                    gate.refused(peer, Some(client), Refused::Calls).await
                }
                _ => {}
            }
            answer
        }
        Err(refusal) => {
            let why = match refusal {
                Refusal::Missing => Some(Refused::Unauthenticated),
                Refusal::Invalid => Some(Refused::WrongToken),
                Refusal::Stranger => Some(Refused::UnknownSubject),
                // Nothing was decided.
                Refusal::Later => None,
            };
            if let Some(why) = why {
                gate.refused(peer, None, why).await;
            }
            metadata::refuse(refusal, door.jwt.is_some(), door.resource.as_ref())
        }
    }
}

/// Where clients learn how to get in; open to everybody.
pub(super) fn metadata(gate: Gate) -> Router {
    metadata::routes(gate)
}

#[cfg(test)]
mod tests {
    use axum::middleware::from_fn_with_state;
    use secrecy::SecretString;
    use sha2::{Digest, Sha256};
    use url::Url;

    use super::*;
    use crate::clock::SystemClock;

    fn config(token: Option<&str>, allow_anonymous: bool) -> Config {
        Config { token: token.map(SecretString::from), allow_anonymous, ..Config::default() }
    }

    fn jwt() -> jwt::Config {
        jwt::Config {
            issuer: Some("https://issuer.example".to_owned()),
            audience: vec!["herald".to_owned()],
            jwks_file: Some("/nowhere/jwks.json".into()),
            ..jwt::Config::default()
        }
    }

    fn clients(token: &str) -> Clients {
        let hash = TokenHash::new(format!("sha256:{:x}", Sha256::digest(token)));
        let credentials = Credentials { tokens: vec![hash], subjects: Vec::new() };
        Clients::from([(ClientName::new("k8s"), credentials)])
    }

    fn door(config: &Config) -> Door {
        Door::new(config, &Clients::new()).unwrap()
    }

    async fn enter(door: &Door, authorization: &[&str]) -> Result<String, Refusal> {
        let mut headers = HeaderMap::new();
        for value in authorization {
            headers.append(header::AUTHORIZATION, value.parse().unwrap());
        }
        let client = door.enter(&headers, Timestamp(0)).await?;
        Ok(client.to_string())
    }

    #[tokio::test]
    async fn the_token_opens_and_nothing_else_does() {
        for configured in ["s3cret", "Bearer s3cret", "bearer s3cret\n"] {
            let door = door(&config(Some(configured), false));
            for good in ["Bearer s3cret", "bearer s3cret", "Bearer  s3cret"] {
                assert_eq!(enter(&door, &[good]).await.as_deref(), Ok("default"), "{good}");
            }
            for bad in ["Bearer s3cre", "Bearer s3cretx", "Bearer ", "Bearer", "Bearer a.b.c"] {
                assert_eq!(enter(&door, &[bad]).await, Err(Refusal::Invalid), "{bad}");
            }
            for other in ["s3cret", "Basic s3cret", ""] {
                assert_eq!(enter(&door, &[other]).await, Err(Refusal::Missing), "{other}");
            }
            assert_eq!(enter(&door, &[]).await, Err(Refusal::Missing));
            let twice = ["Bearer s3cret", "Bearer s3cret"];
            assert_eq!(enter(&door, &twice).await, Err(Refusal::Invalid));
        }
    }

    #[tokio::test]
    async fn a_token_is_looked_at_up_to_a_length() {
        let (longest, longer) = ("x".repeat(LONGEST), "x".repeat(LONGEST + 1));
        let client = Ok("k8s".to_owned());
        for (token, expected) in [(longest, client), (longer, Err(Refusal::Invalid))] {
            let door = Door::new(&Config::default(), &clients(&token)).unwrap();
            assert_eq!(enter(&door, &[&format!("Bearer {token}")]).await, expected);
        }
    }

    #[tokio::test]
    async fn without_a_token_everybody_is_anonymous() {
        let door = door(&config(None, false));
        assert_eq!(enter(&door, &[]).await.as_deref(), Ok("anonymous"));
        assert_eq!(enter(&door, &["Bearer x"]).await.as_deref(), Ok("anonymous"));
    }

    #[tokio::test]
    async fn a_client_or_an_issuer_ends_that() {
        let named = Door::new(&Config::default(), &clients("a")).unwrap();
        let issued = door(&Config { jwt: jwt(), ..Config::default() });
        for door in [named, issued] {
            assert_eq!(enter(&door, &[]).await, Err(Refusal::Missing));
            assert_eq!(enter(&door, &["Bearer x"]).await, Err(Refusal::Invalid));
        }
    }

    #[tokio::test]
    async fn a_wrong_token_is_refused_even_where_none_is_needed() {
        let door = door(&config(Some("s3cret"), true));
        assert_eq!(enter(&door, &[]).await.as_deref(), Ok("anonymous"));
        assert_eq!(enter(&door, &["Bearer wrong"]).await, Err(Refusal::Invalid));
        assert_eq!(enter(&door, &["Basic wrong"]).await, Err(Refusal::Missing));
    }

    #[test]
    fn the_network_needs_a_token_or_an_explicit_word() {
        let network = SocketAddr::from(([0, 0, 0, 0], 3000));
        let loopback = SocketAddr::from(([127, 0, 0, 1], 3000));
        let nobody = Clients::new();
        let error = check_exposure(&config(None, false), &nobody, network).unwrap_err();
        assert!(
            error.contains("HERALD_TOKEN") && error.contains("HERALD_ALLOW_ANONYMOUS"),
            "{error}"
        );
        assert!(check_exposure(&config(None, false), &nobody, loopback).is_ok());
        assert!(check_exposure(&config(Some("x"), false), &nobody, network).is_ok());
        assert!(check_exposure(&config(None, true), &nobody, network).is_ok());
        assert!(check_exposure(&config(None, false), &clients("a"), network).is_ok());
        let issued = Config { jwt: jwt(), ..Config::default() };
        assert!(check_exposure(&issued, &nobody, network).is_ok());
    }

    #[tokio::test]
    async fn what_lies_behind_the_gate_sees_the_client_and_not_its_token() {
        let seen = async |request: Request| {
            let Principal(client) = request.extensions().get().cloned().unwrap();
            format!("{client} {}", request.headers().contains_key(header::AUTHORIZATION))
        };
        for (config, who) in
            [(config(Some("s3cret"), false), "default"), (config(None, false), "anonymous")]
        {
            let gate = Gate::new(door(&config), Arc::new(SystemClock));
            let behind = Router::new().fallback(seen).layer(from_fn_with_state(gate, authenticate));
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}/", listener.local_addr().unwrap());
            tokio::spawn(async move { axum::serve(listener, behind).await });
            crate::platform::http::install_crypto_provider();
            let http = reqwest::Client::builder().no_proxy().build().unwrap();
            let answer = http.get(url).bearer_auth("s3cret").send().await.unwrap();
            assert_eq!(answer.text().await.unwrap(), format!("{who} false"));
        }
    }

    #[test]
    fn a_change_of_the_settings_does_not_open_the_door_to_everybody() {
        let new = |config: &Config| Gate::new(door(config), Arc::new(SystemClock));
        let gate = new(&config(Some("s3cret"), false));
        let error = gate.replace(door(&config(None, false))).unwrap_err();
        assert!(error.contains("HERALD_ALLOW_ANONYMOUS"), "{error}");
        assert!(gate.door().is_guarded());
        assert!(gate.replace(door(&config(None, true))).is_ok());
        assert!(!gate.door().is_guarded());

        let open = new(&config(None, false));
        assert!(open.replace(door(&config(None, false))).is_ok());
    }

    #[test]
    fn subjects_need_an_issuer() {
        let credentials = Credentials { tokens: Vec::new(), subjects: vec!["me".to_owned()] };
        let clients = Clients::from([(ClientName::new("k8s"), credentials)]);
        let error = Door::new(&Config::default(), &clients).err().unwrap();
        assert!(error.contains("clients.k8s.subjects") && error.contains("mcp.jwt"), "{error}");
        assert!(Door::new(&Config { jwt: jwt(), ..Config::default() }, &clients).is_ok());
    }

    #[test]
    fn a_public_url_is_one() {
        for wrong in ["ftp://h/mcp", "https://h/mcp?x=1", "https://h/mcp#x", "https://u:p@h/mcp"] {
            let public_url = Url::parse(wrong).ok();
            let config = Config { jwt: jwt(), public_url, ..Config::default() };
            let error = Door::new(&config, &Clients::new()).err().unwrap();
            assert!(error.contains("HERALD_PUBLIC_URL") && !error.contains("u:p"), "{error}");
        }
    }
}
