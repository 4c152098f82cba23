//! What one caller of `/mcp` may take from the others: places, requests a minute, the bytes and the time of a body; and
//! how often an address may guess a token.
//!
//! From the outside in: [`enter`] (what costs nothing to judge), [`slow_guesses`] around the door, the door, and
//! [`admit`], which knows the client. Nobody waits for a place: who gets none hears when to come again.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ::http::{HeaderValue, StatusCode, header};
use axum::Json;
use axum::body::{Body, HttpBody};
use axum::extract::{ConnectInfo, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::Config;
use super::auth::Principal;
use crate::model::ClientName;
use crate::platform::body::Bodies;
use crate::telemetry::metrics::Refusal;

/// The most bytes of one request: above the longest text that a tool takes, so that the tool says what is too long.
pub(super) const LONGEST_BODY: usize = 2 * 1024 * 1024;

/// How long a body may take to arrive.
const BODY: Duration = Duration::from_secs(15);

/// What all bodies together may hold, as far as they are longer than usual.
const LONG_BODIES: usize = 32 * 1024 * 1024;

/// The most requests under way, of all clients together.
const AT_ONCE: NonZeroU32 = NonZeroU32::MIN.saturating_add(511);

/// The most requests under way of one client: others have places left whatever it does.
const CLIENT_AT_ONCE: NonZeroU32 = NonZeroU32::MIN.saturating_add(127);

/// The most requests of one client in a minute.
const REQUESTS_PER_MINUTE: u32 = 600;

/// The most wrong tokens from one address in a minute.
const GUESSES_PER_MINUTE: NonZeroU32 = NonZeroU32::MIN.saturating_add(29);

/// When to come again where nobody can know.
const SOON: Duration = Duration::from_secs(1);

/// How many checks of a rate may pass until what is over is forgotten.
const FORGET_EVERY: u32 = 256;

/// JSON-RPC's code for what a server says in its own words.
const SERVER_ERROR: i32 = -32000;

/// What is left of everything that callers share.
pub(super) struct Limits {
    places: Arc<Semaphore>,
    each: u32,
    clients: Arc<Mutex<HashMap<ClientName, u32>>>,
    rate: Option<Rate<ClientName>>,
    guesses: Rate<IpAddr>,
    bodies: Bodies,
}

impl Limits {
    pub(super) fn new(config: &Config) -> Self {
        let places = config.requests_at_once.unwrap_or(AT_ONCE).get();
        let rate = config.requests_per_minute.unwrap_or(REQUESTS_PER_MINUTE);
        Self {
            places: Arc::new(Semaphore::new(usize::try_from(places).unwrap_or(usize::MAX))),
            each: config.client_requests_at_once.unwrap_or(CLIENT_AT_ONCE).get(),
            clients: Arc::default(),
            rate: NonZeroU32::new(rate).map(Rate::per_minute),
            guesses: Rate::per_minute(GUESSES_PER_MINUTE),
            bodies: Bodies::new(LONGEST_BODY, LONG_BODIES, BODY),
        }
    }

    /// The client's place, until it is dropped.
    fn place(&self, client: &ClientName) -> Result<ClientPlace, Refused> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let under_way = clients.entry(client.clone()).or_default();
        if *under_way >= self.each {
            return Err(Refused::CLIENT_FULL);
        }
        *under_way += 1;
        Ok(ClientPlace { client: client.clone(), clients: Arc::clone(&self.clients) })
    }
}

struct ClientPlace {
    client: ClientName,
    clients: Arc<Mutex<HashMap<ClientName, u32>>>,
}

impl Drop for ClientPlace {
    fn drop(&mut self) {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(under_way) = clients.get_mut(&self.client) {
            *under_way -= 1;
            // Who has none under way is not remembered.
            if *under_way == 0 {
                clients.remove(&self.client);
            }
        }
    }
}

/// How often each of many may do something, all of a minute's at once if need be.
struct Rate<K: Hash + Eq + Clone> {
    limiter: RateLimiter<K, HashMapStateStore<K>, Ticks, NoOpMiddleware<Duration>>,
    asked: AtomicU32,
}

impl<K: Hash + Eq + Clone> Rate<K> {
    fn per_minute(most: NonZeroU32) -> Self {
        let (quota, store) = (Quota::per_minute(most), HashMapStateStore::default());
        let limiter = RateLimiter::new(quota, store, Ticks(Instant::now()));
        Self { limiter, asked: AtomicU32::new(1) }
    }

    /// # Errors
    /// How long it is until the next one may.
    fn check(&self, key: &K) -> Result<(), Duration> {
        if self.asked.fetch_add(1, Ordering::Relaxed).is_multiple_of(FORGET_EVERY) {
            self.limiter.retain_recent();
        }
        let now = self.limiter.clock().now();
        self.limiter.check_key(key).map_err(|not_until| not_until.wait_time_from(now))
    }
}

/// The runtime's clock: it never jumps, and a test can stop it.
#[derive(Clone)]
struct Ticks(Instant);

impl Clock for Ticks {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

/// The outermost: too long by its own word, or one too many. Neither needs to know who asks.
pub(super) async fn enter(
    State(limits): State<Arc<Limits>>,
    request: Request,
    next: Next,
) -> Response {
    if request.body().size_hint().lower() > LONGEST_BODY as u64 {
        return Refused::TOO_LARGE.into_response();
    }
    match Arc::clone(&limits.places).try_acquire_owned() {
        Ok(_place) => next.run(request).await,
        Err(_) => Refused::FULL.of(&request).into_response(),
    }
}

/// Around the door: counts wrong tokens by where they come from. Only an answer that is a refusal anyway changes, since
/// behind an ingress everybody has one address: a valid token is never refused for what others do. So a guess is not
/// impossible, but costs a connection; that it is hopeless is the token's length.
pub(super) async fn slow_guesses(
    State(limits): State<Arc<Limits>>,
    request: Request,
    next: Next,
) -> Response {
    // To come without a token is how a client learns where to get one.
    let guesses = request.headers().contains_key(header::AUTHORIZATION);
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip());
    let answer = next.run(request).await;
    if !guesses || answer.status() != StatusCode::UNAUTHORIZED {
        return answer;
    }
    match limits.guesses.check(&network(peer.unwrap_or(Ipv4Addr::UNSPECIFIED.into()))) {
        Ok(()) => answer,
        Err(wait) => Refused { retry_after: Some(wait), ..Refused::GUESSING }.into_response(),
    }
}

/// Whoever has one address of an IPv6 network has all of them.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(it) => Ipv6Addr::from_bits(it.to_bits() & (u128::MAX << 64)).into(),
        address @ IpAddr::V4(_) => address,
    }
}

/// Behind the door: the client's rate, its place, and then its body.
pub(super) async fn admit(
    State(limits): State<Arc<Limits>>,
    request: Request,
    next: Next,
) -> Response {
    match admitted(&limits, request, next).await {
        Ok(answer) => answer,
        Err(refused) => refused.into_response(),
    }
}

async fn admitted(limits: &Limits, request: Request, next: Next) -> Result<Response, Refused> {
    let Some(Principal(client)) = request.extensions().get::<Principal>() else {
        // Nobody was let in without one; what stands behind says so.
        return Ok(next.run(request).await);
    };
    if let Some(Err(wait)) = limits.rate.as_ref().map(|rate| rate.check(client)) {
        return Err(Refused { retry_after: Some(wait), ..Refused::RATE }.of(&request));
    }
    let _place = limits.place(client).map_err(|refused| refused.of(&request))?;
    let (parts, body) = request.into_parts();
    // It counts until the answer: what is made of it lives as long.
    let mut gathered = limits.bodies.gather(body).await?;
    let body = Body::from(std::mem::take(&mut gathered.bytes));
    Ok(next.run(Request::from_parts(parts, body)).await)
}

/// A request that is not let through.
#[derive(Clone, Copy, Debug)]
struct Refused {
    status: StatusCode,
    why: Refusal,
    retry_after: Option<Duration>,
    /// Whether part of the request is still to come, so that no other can follow it.
    unread: bool,
    sentence: &'static str,
}

impl Refused {
    const TOO_LARGE: Self = Self {
        status: StatusCode::PAYLOAD_TOO_LARGE,
        why: Refusal::TooLarge,
        retry_after: None,
        unread: true,
        sentence: "the request's body is longer than 2 MiB: shorten the text, or use several calls",
    };
    const TOO_SLOW: Self = Self {
        status: StatusCode::REQUEST_TIMEOUT,
        why: Refusal::TooSlow,
        sentence: "the request's body did not arrive in time",
        ..Self::TOO_LARGE
    };
    const BROKEN: Self = Self {
        status: StatusCode::BAD_REQUEST,
        why: Refusal::Broken,
        sentence: "the request's body ended early, or its chunks are not what HTTP calls chunks",
        ..Self::TOO_LARGE
    };
    const FULL: Self = Self {
        status: StatusCode::SERVICE_UNAVAILABLE,
        why: Refusal::Full,
        retry_after: Some(SOON),
        unread: true,
        sentence: "Herald has too many requests under way: try again later",
    };
    const CLIENT_FULL: Self = Self {
        status: StatusCode::TOO_MANY_REQUESTS,
        why: Refusal::ClientFull,
        sentence: "too many requests of this client are under way: wait for their answers",
        ..Self::FULL
    };
    const RATE: Self = Self {
        status: StatusCode::TOO_MANY_REQUESTS,
        why: Refusal::Rate,
        sentence: "this client sends too many requests a minute: try again later",
        ..Self::FULL
    };
    const GUESSING: Self = Self {
        status: StatusCode::TOO_MANY_REQUESTS,
        why: Refusal::Guessing,
        sentence: "too many wrong tokens came from this address: try again later, with a valid one",
        ..Self::FULL
    };

    /// This one, of a request of which nothing but the head was read.
    fn of(self, request: &Request) -> Self {
        Self { unread: !request.body().is_end_stream(), ..self }
    }
}

impl From<Refusal> for Refused {
    /// Why a body was not read to its end.
    fn from(why: Refusal) -> Self {
        match why {
            Refusal::TooLarge => Self::TOO_LARGE,
            Refusal::TooSlow => Self::TOO_SLOW,
            Refusal::Full => Self::FULL,
            _ => Self::BROKEN,
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let error = json!({ "code": SERVER_ERROR, "message": self.sentence });
        let body = Json(json!({ "jsonrpc": "2.0", "id": null, "error": error }));
        let mut answer = (self.status, body).into_response();
        if let Some(wait) = self.retry_after {
            // Whole seconds, and none too few.
            let seconds = u64::try_from(wait.as_millis().div_ceil(1000)).unwrap_or(u64::MAX).max(1);
            answer.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        if self.unread {
            answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        answer.extensions_mut().insert(self.why);
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_rate_is_a_minutes_at_once_and_then_one_by_one() {
        let rate = Rate::per_minute(NonZeroU32::new(60).unwrap());
        assert!((0..60).all(|_| rate.check(&"a").is_ok()));
        let wait = rate.check(&"a").unwrap_err();
        assert!(wait > Duration::ZERO && wait <= Duration::from_secs(1), "{wait:?}");
        assert!(rate.check(&"b").is_ok(), "another's is not touched");
        tokio::time::advance(wait).await;
        assert!(rate.check(&"a").is_ok() && rate.check(&"a").is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_not_come_for_a_while_is_forgotten() {
        let rate = Rate::per_minute(NonZeroU32::new(60).unwrap());
        for n in 0..100 {
            for address in 0..100_u32 {
                let address = Ipv4Addr::from_bits(n * 100 + address);
                assert!(rate.check(&IpAddr::from(address)).is_ok());
            }
            tokio::time::advance(Duration::from_secs(2)).await;
        }
        let known = rate.limiter.len();
        assert!(known <= 100 + FORGET_EVERY as usize, "{known} of 10,000 are remembered");
    }

    #[tokio::test]
    async fn a_client_without_requests_is_not_remembered() {
        let limits = Limits::new(&Config {
            client_requests_at_once: NonZeroU32::new(2),
            ..Config::default()
        });
        let client = ClientName::new("a");
        let (first, second) = (limits.place(&client), limits.place(&client));
        assert!(first.is_ok() && second.is_ok() && limits.place(&client).is_err());
        assert!(limits.place(&ClientName::new("b")).is_ok());
        drop(first);
        assert!(limits.place(&client).is_ok());
        drop(second);
        assert!(limits.clients.lock().unwrap().is_empty());
    }

    #[test]
    fn an_address_stands_for_its_network() {
        let same = |a: &str, b: &str| network(a.parse().unwrap()) == network(b.parse().unwrap());
        assert!(same("2001:db8::1", "2001:db8::ffff:1") && !same("2001:db8::1", "2001:db8:0:1::1"));
        assert!(same("::ffff:10.0.0.1", "10.0.0.1") && !same("10.0.0.1", "10.0.0.2"));
    }
}
