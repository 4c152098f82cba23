//! How long a burst of Slack's events takes to be acknowledged: `cargo bench --bench burst`.
//!
//! The same 1,000 signed requests go to Herald, which verifies, understands and stores each on the disk before it answers,
//! and to a bare axum handler that answers at once, 64 at a time, in turns. The ratio says what it costs to lose nothing.
//! Turns begin meanwhile, with an agent that never answers.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a measurement that cannot go on should stop"
)]

#[expect(dead_code, reason = "the other benchmarks use the rest")]
mod world;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::routing::post;
use futures_util::{StreamExt, stream};
use herald::app::Serves;
use herald::clock::SystemClock;
use herald::config::Config;
use herald::platform::http::install_crypto_provider;
use herald::sandbox::World;
use http::StatusCode;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use world::{herald, median, on_disk, serve};

const EVENTS: usize = 1_000;
const AT_ONCE: usize = 64;
const ROUNDS: usize = 5;
const SECRET: &str = "8f742231b10e8888abcd99yyyzzz85a5";

#[tokio::main]
async fn main() {
    install_crypto_provider();
    let world = World::new(Arc::new(SystemClock));
    world.agent_mute(true);
    let workspace = serve(world.router()).await;
    let bare = serve(Router::new().route("/slack/events", post(async |_: Bytes| StatusCode::OK)));
    let bare = bare.await;
    let data = on_disk();
    let stop = CancellationToken::new();
    let mut env: BTreeMap<String, String> = world.exports(&workspace).into_iter().collect();
    env.retain(|name, _| name.starts_with("SLACK") || name.starts_with("KAGENT"));
    env.remove("SLACK_APP_TOKEN");
    env.insert("SLACK_SIGNING_SECRET".to_owned(), SECRET.to_owned());
    let mut config = Config::load(None, &|name| env.get(name).cloned()).unwrap();
    config.bot.messages_per_minute = u32::MAX;
    let herald = herald(config, Some(data.path()), Serves::Bot, stop.clone()).await;

    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let (mut durable, mut answering, mut slowest) = (Vec::new(), Vec::new(), Duration::ZERO);
    // The first round opens the connections, and does not count.
    for round in 0..=ROUNDS {
        let requests: Vec<_> = (0..EVENTS).map(|n| signed(round * EVENTS + n)).collect();
        let (to_herald, worst) = burst(&client, &herald, &requests).await;
        let (to_bare, _) = burst(&client, &bare, &requests).await;
        if round > 0 {
            durable.push(to_herald);
            answering.push(to_bare);
            slowest = slowest.max(worst);
        }
    }
    let (durable, answering) = (median(durable), median(answering));
    println!("{EVENTS} signed events, {AT_ONCE} at a time, median of {ROUNDS} rounds");
    println!("  acknowledged by Herald, stored    {durable:>10.1?}   (slowest one: {slowest:.1?})");
    println!("  answered by a bare axum handler   {answering:>10.1?}");
    println!("  ratio                             {:>10.2}", durable.div_duration_f64(answering));
    stop.cancel();
}

/// A request's body, time and signature.
type Signed = (String, String, String);

/// Sends every request, and tells how long all took, and the slowest of them.
async fn burst(client: &reqwest::Client, base: &str, requests: &[Signed]) -> (Duration, Duration) {
    let url = format!("{base}/slack/events");
    let started = Instant::now();
    let send = |(body, time, signature): Signed| {
        let request = client
            .post(&url)
            .header("content-type", "application/json")
            .header("x-slack-request-timestamp", time)
            .header("x-slack-signature", signature)
            .body(body);
        async move {
            let sent = Instant::now();
            request.send().await.unwrap().error_for_status().unwrap();
            sent.elapsed()
        }
    };
    let took = stream::iter(requests.to_vec()).map(send).buffer_unordered(AT_ONCE);
    let slowest = took.fold(Duration::ZERO, async |most, took| most.max(took)).await;
    (started.elapsed(), slowest)
}

/// A mention in a thread of its own.
fn signed(n: usize) -> Signed {
    let seconds = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let ts = format!("{seconds}.{n:06}");
    let body = serde_json::json!({
        "type": "event_callback", "event_id": format!("Ev{n:08}"), "event_time": seconds,
        "team_id": "T0SANDBOX", "api_app_id": "A0SANDBOX",
        "event": {
            "type": "app_mention", "user": "U0ALICE", "channel": "C0GENERAL", "ts": ts, "event_ts": ts,
            "text": format!("<@U0HERALD> what about number {n}?"),
        },
    });
    let (body, time) = (body.to_string(), seconds.to_string());
    let signature = signature(&format!("v0:{time}:{body}"));
    (body, time, signature)
}

/// HMAC-SHA256 (RFC 2104), as Slack writes it.
fn signature(text: &str) -> String {
    let mut key = [0; 64];
    key[..SECRET.len()].copy_from_slice(SECRET.as_bytes());
    let inner = Sha256::new().chain_update(key.map(|b| b ^ 0x36)).chain_update(text).finalize();
    let outer = Sha256::new().chain_update(key.map(|b| b ^ 0x5c)).chain_update(inner).finalize();
    outer.iter().fold("v0=".to_owned(), |text, byte| text + &format!("{byte:02x}"))
}
