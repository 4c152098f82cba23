//! What the tests of the edge run on: a server with one allowed channel per platform, and a hook into its tool calls.

#![expect(clippy::unwrap_used, reason = "it is made for tests")]

use std::collections::BTreeMap;
#[cfg(test)]
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::Herald;
use crate::clock::SystemClock;
use crate::delivery::{self, Worker};
use crate::model::PlatformKind;
use crate::notifier::{self, Notifier};
use crate::platform::http::{self, HttpClient, install_crypto_provider};
use crate::platform::{self, discord, slack, telegram};
use crate::policy::{AllowList, Policy, Rulebook};
use crate::store::sqlite::Sqlite;
use crate::store::trail::Scribe;
use crate::telemetry::Metrics;

/// Runs before each tool call.
#[cfg(test)]
pub(crate) type Hook = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// A notifier that may post to `slack:C0ALERTS` (`alerts`) and `telegram:-1001000000001`. Discord is not configured, and
/// nobody runs the worker: what is accepted is not sent.
pub(crate) async fn notifier() -> Arc<Notifier> {
    install_crypto_provider();
    let token = || Some(SecretString::from("1:test"));
    // Nobody listens there.
    let nowhere = || Url::parse("http://127.0.0.1:9").ok();
    let slack = slack::Config { bot_token: token(), api_url: nowhere(), ..Default::default() };
    let telegram =
        telegram::Config { bot_token: token(), api_url: nowhere(), ..Default::default() };
    let http = HttpClient::new(&http::Settings::default()).unwrap();
    let platforms: BTreeMap<_, _> =
        platform::configured(&slack, &discord::Config::default(), &telegram, &http)
            .into_iter()
            .map(|platform| (platform.kind(), platform))
            .collect();
    let list = |kind, entry| (kind, AllowList::parse(kind, [entry]).unwrap());
    let rules = Rulebook::from(Policy::new(BTreeMap::from([
        list(PlatformKind::Slack, "alerts=C0ALERTS"),
        list(PlatformKind::Telegram, "-1001000000001"),
    ])));
    let outbox = Arc::new(Sqlite::in_memory().await.unwrap());
    let worker = Worker::new(
        outbox.clone(),
        platforms.clone(),
        rules.clone(),
        Arc::default(),
        Arc::new(SystemClock),
        Metrics::default(),
        delivery::Settings {
            process: "test".to_owned(),
            own_only: true,
            on_unknown: delivery::OnUnknown::Hold,
            backoff: Duration::from_secs(1),
            probe: Duration::from_secs(30),
        },
    );
    let settings = notifier::Settings {
        process: "test".to_owned(),
        wait: Duration::ZERO,
        deadline: Duration::from_secs(60),
        deduplicate: true,
        keeps: false,
        stop: CancellationToken::new(),
    };
    let clock = Arc::new(SystemClock);
    let (guard, metrics) = (Arc::default(), Metrics::default());
    let scribe = Arc::new(Scribe::new(outbox.clone(), clock.clone()));
    let parts = notifier::Parts { platforms, rules, guard, outbox, scribe, worker, clock, metrics };
    Arc::new(Notifier::new(parts, settings))
}

pub(crate) async fn herald() -> Herald {
    Herald::new(notifier().await, Metrics::default())
}

/// A server whose tool calls go through `hook` first.
#[cfg(test)]
pub(crate) async fn hooked<F>(hook: impl Fn() -> F + Send + Sync + 'static) -> Herald
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut herald = herald().await;
    let hook: Hook = Arc::new(move || Box::pin(hook()));
    Arc::get_mut(&mut herald.shared).unwrap().before_call = Some(hook);
    herald
}
