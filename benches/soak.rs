//! Whether Herald holds on to anything while it works: `cargo bench --bench soak -- --minutes 60`.
//!
//! A `herald serve` on a data directory gets a steady load over 64 channels. After a fifth of the time, its memory
//! and its descriptors have to stay where they are, every call has to end with `delivered`, and every message has to stand
//! in its channel once. Without `--minutes` there is nothing to do.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "a measurement that cannot go on should stop"
)]

#[expect(dead_code, reason = "the other benchmarks use the rest")]
mod world;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use world::process::{Holds, Served};
use world::{CHANNELS, Workspace, argument, channel, on_disk};

/// The most that memory may seem to grow after the warm-up, in KiB, by the line through all that was measured. In 5
/// minutes that is some 350 bytes for each message, in an hour 30: what is kept of each message shows, what an allocator
/// does by itself does not.
const MOST_GROWTH: f64 = 4096.0;
/// The most calls under way.
const UNDER_WAY: usize = 8;
/// The most descriptors by which the last fifth may be above the first one: how many connections are open depends on how
/// slow the machine is, and each call may have one to Herald and one from there to the platform.
const MOST_DESCRIPTORS: f64 = 16.0;

#[tokio::main]
async fn main() {
    let minutes = argument("--minutes", 0);
    let a_second = argument("--rate", 50);
    if minutes == 0 {
        println!("\nsoak: give the minutes, such as: cargo bench --bench soak -- --minutes 5");
        return;
    }
    let (workspace, data) = (Workspace::open().await, on_disk());
    let served = Arc::new(Served::start(&workspace.env(), data.path()).await);
    let (begun, last) = (Instant::now(), Duration::from_secs(minutes as u64 * 60));
    let warm = last / 5;
    let ended = Arc::new(AtomicUsize::new(0));
    let (mut calls, mut sent) = (JoinSet::new(), 0);
    let mut seen: Vec<(f64, Holds)> = Vec::new();
    let mut send = tokio::time::interval(Duration::from_secs(1) / a_second as u32);
    let mut look = tokio::time::interval(Duration::from_secs(1));
    send.set_missed_tick_behavior(MissedTickBehavior::Skip);
    while begun.elapsed() < last {
        tokio::select! {
            // Where it does not keep up, the load waits: that is no leak.
            _ = send.tick(), if sent - ended.load(Ordering::Relaxed) < UNDER_WAY => {
                sent += 1;
                let (served, ended, n) = (Arc::clone(&served), Arc::clone(&ended), sent);
                calls.spawn(async move {
                    served.caller.send(n).await;
                    ended.fetch_add(1, Ordering::Relaxed);
                });
            }
            Some(call) = calls.join_next() => call.unwrap(),
            _ = look.tick() => {
                let elapsed = begun.elapsed();
                let holds = served.holds();
                if elapsed.as_secs().is_multiple_of(30) {
                    println!("{:>6} s {sent:>8} messages {holds:?}", elapsed.as_secs());
                }
                if elapsed >= warm {
                    seen.push((elapsed.as_secs_f64(), holds));
                }
            }
        }
    }
    while let Some(call) = calls.join_next().await {
        call.unwrap();
    }
    nothing_lost(&workspace, sent);
    let growth = growth(&seen);
    let fifth = seen.len() / 5;
    let descriptors = |seen: &[(f64, Holds)]| {
        seen.iter().map(|(_, holds)| holds.descriptors as f64).sum::<f64>() / seen.len() as f64
    };
    let more = descriptors(&seen[seen.len() - fifth..]) - descriptors(&seen[..fifth]);
    println!("\n{sent} messages in {minutes} minutes, each delivered once");
    println!("  memory       {growth:>+9.0} KiB since the warm-up, at most {MOST_GROWTH}");
    println!("  descriptors  {more:>+9.1}, at most {MOST_DESCRIPTORS}");
    assert!(growth <= MOST_GROWTH, "memory grows");
    assert!(more <= MOST_DESCRIPTORS, "descriptors grow");
}

/// What memory gained from the first look to the last, in KiB, by the line through all of them (least squares).
fn growth(seen: &[(f64, Holds)]) -> f64 {
    let count = seen.len() as f64;
    let mean = |value: fn(&(f64, Holds)) -> f64| seen.iter().map(value).sum::<f64>() / count;
    let (at, kib) = (mean(|(at, _)| *at), mean(|(_, holds)| holds.anonymous as f64));
    let (mut up, mut along) = (0.0, 0.0);
    for (second, holds) in seen {
        up += (second - at) * (holds.anonymous as f64 - kib);
        along += (second - at).powi(2);
    }
    up / along * (seen[seen.len() - 1].0 - seen[0].0)
}

/// Every message stands in its channel, once.
fn nothing_lost(workspace: &Workspace, sent: usize) {
    for n in 0..CHANNELS {
        let shown = workspace.world.messages(&format!("slack:{}", channel(n)));
        let mut shown: Vec<_> = shown.into_iter().map(|message| message.text).collect();
        let count = shown.len();
        shown.sort();
        shown.dedup();
        let expected = (1..=sent).filter(|number| number % CHANNELS == n).count();
        assert_eq!((shown.len(), count), (expected, expected), "{}", channel(n));
    }
}
