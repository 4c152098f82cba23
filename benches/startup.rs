//! How long a start takes, and what a running Herald weighs: `cargo bench --bench startup`.
//!
//! A start is from the process to the answer to the first `tools/list` over stdio. It takes turns with that of `cat`, which
//! answers its first line: what starting any process takes here. Memory is `herald serve` on SQLite: idle, and under 64
//! calls at once.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "a measurement that cannot go on should stop"
)]

#[expect(dead_code, reason = "the other benchmarks use the rest")]
mod world;

use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;

use world::callers::Pipes;
use world::process::Served;
use world::{AT_ONCE, Workspace, argument, median, on_disk};

#[tokio::main]
async fn main() {
    let workspace = Workspace::open().await;
    let env = workspace.env();
    let (mut starts, mut others) = (Vec::new(), Vec::new());
    for _ in 0..argument("--rounds", 25) {
        let since = Instant::now();
        let pipes = Pipes::start(&env, None).await;
        let answer = pipes.request(1, "tools/list", json!({})).await;
        starts.push(since.elapsed());
        assert_eq!(answer["result"]["tools"].as_array().map(Vec::len), Some(6), "{answer}");
        others.push(cat().await);
    }
    println!("\nstart to the first answer, median");
    let ratios = starts.iter().zip(&others).map(|(herald, cat)| herald.div_duration_f64(*cat));
    let ratio = median(ratios.collect());
    println!("  herald stdio, tools/list {:>10.1?}", median(starts));
    println!("  cat, one line            {:>10.1?}", median(others));
    println!("  ratio                    {ratio:>10.1}");

    let data = on_disk();
    let served = Served::start(&env, data.path()).await;
    let idle = served.holds();
    let calls = argument("--calls", 100) * AT_ONCE;
    let mut most = idle;
    {
        let mut load = std::pin::pin!(served.caller.at_once(1..calls));
        loop {
            tokio::select! {
                _ = &mut load => break,
                () = tokio::time::sleep(Duration::from_millis(20)) => {
                    let now = served.holds();
                    if now.resident > most.resident {
                        most = now;
                    }
                }
            }
        }
    }
    println!("\nresident memory of herald serve, MiB (without the binary and other files)");
    for (when, holds) in [("idle", idle), ("64 calls at once, most", most)] {
        let mib = |kib: u64| kib as f64 / 1024.0;
        println!("  {when:<24} {:>7.1} ({:.1})", mib(holds.resident), mib(holds.anonymous));
    }
}

/// How long a process takes to answer that does nothing else.
async fn cat() -> Duration {
    let since = Instant::now();
    let mut command = Command::new("cat");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.as_mut().unwrap().write_all(b"hello\n").await.unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next_line().await.unwrap().as_deref(), Some("hello"));
    let took = since.elapsed();
    child.kill().await.unwrap();
    took
}
