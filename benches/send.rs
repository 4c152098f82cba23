//! What a message costs from the tool call to the platform's acknowledgement: `cargo bench --bench send`.
//!
//! Each way of running Herald takes turns with a bare axum handler that forwards the same message to the same workspace
//! with reqwest: 1. one call after the other, 2. 64 calls at once over as many channels. Beside it stands what SQLite and
//! the disk alone take for the same transactions. `--rounds N` and `--calls N` make it longer.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "a measurement that cannot go on should stop"
)]

#[expect(dead_code, reason = "the other benchmarks use the rest")]
mod world;

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use herald::app::Serves;
use tokio_util::sync::CancellationToken;

use world::callers::{Bare, Caller, Http, Pipes};
use world::sql::{Bulk, Commits};
use world::{AT_ONCE, Workspace, argument, herald, median, on_disk, postgres};

/// What is measured in each round, by name.
type Figures = BTreeMap<String, Vec<Duration>>;

#[tokio::main]
async fn main() {
    let rounds = argument("--rounds", 7);
    let calls = argument("--calls", 150);
    let many = argument("--many", 20) * AT_ONCE;
    let stop = CancellationToken::new();
    let workspace = Workspace::open().await;
    let (disk, piped, alone) = (on_disk(), on_disk(), on_disk());

    let config = workspace.config();
    let base = herald(config.clone(), None, Serves::Mcp, stop.clone()).await;
    let mut callers = vec![("HTTP, in memory", Caller::Http(Http::new(&base)))];
    let base = herald(config.clone(), Some(disk.path()), Serves::Mcp, stop.clone()).await;
    callers.push(("HTTP, SQLite", Caller::Http(Http::new(&base))));
    let mut env = workspace.env();
    callers.push(("stdio, in memory", Caller::Stdio(Box::new(Pipes::start(&env, None).await))));
    callers.push((
        "stdio, SQLite",
        Caller::Stdio(Box::new(Pipes::start(&env, Some(piped.path())).await)),
    ));
    if let Some(url) = postgres::schema() {
        let mut config = config.clone();
        config.database_url = Some(url.into());
        let base = herald(config, None, Serves::Mcp, stop.clone()).await;
        callers.push(("HTTP, PostgreSQL", Caller::Http(Http::new(&base))));
        env.insert("HERALD_DATABASE_URL".to_owned(), postgres::schema().unwrap());
        callers
            .push(("stdio, PostgreSQL", Caller::Stdio(Box::new(Pipes::start(&env, None).await))));
    }
    let only = std::env::args().skip_while(|argument| argument != "--only").nth(1);
    callers.retain(|(name, _)| only.as_ref().is_none_or(|only| name.contains(only.as_str())));
    let bare = Bare::start(&workspace, &callers[0].1, 0).await;
    callers.insert(0, ("bare", Caller::Bare(bare)));

    let mut numbers = Numbers(1);
    // Opens connections, fills caches, and does not count.
    for (_, caller) in &callers {
        caller.at_once(numbers.next(AT_ONCE * 2)).await;
    }
    let mut commits = Commits::open(alone.path()).await;
    let mut bulk = match only {
        None => Some(Bulk::open(alone.path(), disk.path()).await),
        Some(_) => None,
    };
    let (mut single, mut many_at_once) = (Figures::new(), Figures::new());
    for _ in 0..rounds {
        for (name, caller) in &callers {
            let took = caller.one_by_one(numbers.next(calls)).await;
            single.entry((*name).to_owned()).or_default().push(took);
        }
        single.entry("commits".to_owned()).or_default().push(commits.one_by_one(calls).await);
        for (name, caller) in &callers {
            let took = caller.at_once(numbers.next(many)).await;
            many_at_once.entry((*name).to_owned()).or_default().push(took);
        }
        if let Some(bulk) = &mut bulk {
            let took = bulk.groups(many / AT_ONCE).await;
            many_at_once.entry("bulk".to_owned()).or_default().push(took);
        }
    }
    print(&callers, &single, &many_at_once, many);
    stop.cancel();
}

/// Numbers for messages, each used once.
struct Numbers(usize);

impl Numbers {
    fn next(&mut self, count: usize) -> Range<usize> {
        let from = self.0;
        self.0 += count;
        from..self.0
    }
}

/// The median of the rounds' ratios.
fn ratio(figures: &Figures, of: &str, to: impl Fn(usize) -> Duration) -> f64 {
    let ratios = figures[of].iter().enumerate();
    median(ratios.map(|(round, took)| took.div_duration_f64(to(round))).collect())
}

fn print(callers: &[(&str, Caller)], single: &Figures, at_once: &Figures, many: usize) {
    println!("\none call after the other, median, and its ratio to the bare forwarder");
    for (name, _) in callers {
        let figure = median(single[*name].clone());
        println!(
            "  {name:<20} {figure:>10.1?} {:>6.2}",
            ratio(single, name, |n| single["bare"][n])
        );
    }
    println!("  {:<20} {:>10.1?}", "3 commits alone", median(single["commits"].clone()));
    if let (Some(memory), Some(_)) = (single.get("HTTP, in memory"), single.get("HTTP, SQLite")) {
        let more = |n: usize| memory[n] + single["commits"][n].mul_f64(1.5);
        let ratio = ratio(single, "HTTP, SQLite", more);
        println!("  SQLite, to in memory and 1.5 x the commits alone: {ratio:.2}");
    }
    println!("\n{AT_ONCE} calls at once, messages a second, and the ratio to the bare forwarder's");
    let rate = |took: Duration| many as f64 / took.as_secs_f64();
    for (name, _) in callers {
        let rates = at_once[*name].iter().map(|took| rate(*took)).collect();
        let ratio = 1.0 / ratio(at_once, name, |n| at_once["bare"][n]);
        println!("  {name:<20} {:>10.0} {ratio:>6.2}", median(rates));
    }
    if let Some(bulk) = at_once.get("bulk") {
        println!("  {:<20} {:>10.0}", "bulk SQL alone", rate(median(bulk.clone())));
        if at_once.contains_key("HTTP, SQLite") {
            let ratio = 1.0 / ratio(at_once, "HTTP, SQLite", |n| bulk[n]);
            println!("  SQLite, to bulk SQL alone: {ratio:.2}");
        }
    }
}
