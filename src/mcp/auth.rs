//! Who is calling: the bearer token of a request, and who may call without one.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, header};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::Config;
use crate::model::ClientName;

/// Who sent a request. Set here and nowhere else, read by the tools.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Principal(pub(super) ClientName);

/// Refuses to serve `/mcp` to the network without authentication, unless the operator asked for that.
///
/// # Errors
/// One sentence that names the two settings.
pub fn check_exposure(config: &Config, listen: SocketAddr) -> Result<(), String> {
    if config.token.is_some() || config.allow_anonymous || listen.ip().is_loopback() {
        return Ok(());
    }
    Err(format!(
        "{listen} is reachable from other machines: set HERALD_TOKEN, or HERALD_ALLOW_ANONYMOUS=true to serve /mcp \
         without authentication"
    ))
}

/// Knows the clients by the digests of their tokens.
pub(super) struct Door {
    keys: Vec<([u8; 32], ClientName)>,
    anonymous: bool,
}

impl Door {
    /// # Errors
    /// One sentence about the setting that is wrong.
    pub(super) fn new(config: &Config) -> Result<Self, String> {
        let mut keys = Vec::new();
        if let Some(token) = &config.token {
            keys.push((digest_of(token)?, ClientName::new("default")));
        }
        Ok(Self { anonymous: config.allow_anonymous || keys.is_empty(), keys })
    }

    fn enter(&self, headers: &HeaderMap) -> Option<ClientName> {
        let anonymous = || self.anonymous.then(|| ClientName::new("anonymous"));
        if self.keys.is_empty() {
            return anonymous();
        }
        let mut given = headers.get_all(header::AUTHORIZATION).iter();
        let Some(value) = given.next() else {
            return anonymous();
        };
        if given.next().is_some() {
            return None;
        }
        let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let digest = Sha256::digest(token.trim().as_bytes());
        // Every key is compared, so that the time taken tells nothing.
        let mut client = None;
        for (key, name) in &self.keys {
            if bool::from(key.ct_eq(digest.as_slice())) {
                client = Some(name.clone());
            }
        }
        client
    }
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

/// The middleware in front of `/mcp`.
pub(super) async fn authenticate(
    State(door): State<Arc<Door>>,
    mut request: Request,
    next: Next,
) -> Response {
    match door.enter(request.headers()) {
        Some(client) => {
            request.extensions_mut().insert(Principal(client));
            next.run(request).await
        }
        None => (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Bearer")]).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(token: Option<&str>, allow_anonymous: bool) -> Config {
        Config { token: token.map(SecretString::from), allow_anonymous, ..Config::default() }
    }

    fn enter(config: &Config, authorization: &[&str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for value in authorization {
            headers.append(header::AUTHORIZATION, value.parse().unwrap());
        }
        let door = Door::new(config).unwrap();
        door.enter(&headers).map(|client| client.to_string())
    }

    #[test]
    fn the_token_opens_and_nothing_else_does() {
        for configured in ["s3cret", "Bearer s3cret", "bearer s3cret\n"] {
            let config = config(Some(configured), false);
            for good in ["Bearer s3cret", "bearer s3cret", "Bearer  s3cret"] {
                assert_eq!(enter(&config, &[good]).as_deref(), Some("default"), "{good}");
            }
            for bad in
                ["Bearer s3cre", "Bearer s3cretx", "Bearer ", "Bearer", "s3cret", "Basic s3cret"]
            {
                assert_eq!(enter(&config, &[bad]), None, "{bad}");
            }
            assert_eq!(enter(&config, &[]), None);
            assert_eq!(enter(&config, &["Bearer s3cret", "Bearer s3cret"]), None);
        }
    }

    #[test]
    fn without_a_token_everybody_is_anonymous() {
        assert_eq!(enter(&config(None, false), &[]).as_deref(), Some("anonymous"));
        assert_eq!(enter(&config(None, false), &["Bearer x"]).as_deref(), Some("anonymous"));
    }

    #[test]
    fn a_wrong_token_is_refused_even_where_none_is_needed() {
        let config = config(Some("s3cret"), true);
        assert_eq!(enter(&config, &[]).as_deref(), Some("anonymous"));
        assert_eq!(enter(&config, &["Bearer wrong"]), None);
    }

    #[test]
    fn a_token_that_nobody_could_send_is_refused() {
        for token in ["", "  ", "Bearer ", "two words", "tab\tbed", "naïve"] {
            let error = Door::new(&config(Some(token), false)).err().unwrap();
            assert!(error.contains("HERALD_TOKEN"), "{error}");
            assert!(token.trim().is_empty() || !error.contains(token), "{error}");
        }
    }

    #[test]
    fn the_network_needs_a_token_or_an_explicit_word() {
        let network = SocketAddr::from(([0, 0, 0, 0], 3000));
        let loopback = SocketAddr::from(([127, 0, 0, 1], 3000));
        let error = check_exposure(&config(None, false), network).unwrap_err();
        assert!(
            error.contains("HERALD_TOKEN") && error.contains("HERALD_ALLOW_ANONYMOUS"),
            "{error}"
        );
        assert!(check_exposure(&config(None, false), loopback).is_ok());
        assert!(check_exposure(&config(Some("x"), false), network).is_ok());
        assert!(check_exposure(&config(None, true), network).is_ok());
    }
}
