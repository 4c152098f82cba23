//! What looking for secrets costs: `cargo bench --bench guard`.
//!
//! Start-up time and memory, and the time for a message of 4 KB, which here are figures of their own, because their limits
//! are; and the ratio to searching every regex one after the other, in turns. Times are the processor's. Each set of rules is
//! measured in a process of its own, which starts with nothing.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "a measurement that cannot go on should stop"
)]

#[path = "../tests/ordinary.rs"]
mod ordinary;

use std::hint::black_box;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use herald::guard::{Own, Rules};
use regex_automata::meta::{self, Regex};
use regex_automata::util::syntax;
use secrecy::SecretString;

/// The length of a message.
const BYTES: usize = 4096;
/// How long one side of a round goes on.
const TURN: Duration = Duration::from_millis(50);
const OWN: &str = include_str!("../src/guard/secrets/herald.toml");

fn main() {
    let args: Vec<String> = std::env::args().collect();
    match args.iter().position(|argument| argument == "--alone") {
        Some(at) => alone(&args[at + 1]),
        None => {
            for which in ["built-in", "gitleaks"] {
                let program = std::env::current_exe().unwrap();
                let status = Command::new(program).args(["--alone", which]).status().unwrap();
                assert!(status.success(), "{which}");
            }
            own_secrets();
        }
    }
}

fn gitleaks() -> Option<String> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(root.join("../shared/gitleaks/gitleaks.toml")).ok()
}

/// One set of rules.
fn alone(which: &str) {
    let file = if which == "gitleaks" { gitleaks() } else { Some(OWN.to_owned()) };
    let Some(file) = file else {
        println!("\n{which}: left out, the file is not there");
        return;
    };
    let before = resident();
    let since = busy();
    let rules = Rules::parse(&file).unwrap();
    let start = busy() - since;
    let idle = resident();
    println!("\n{which}, {} rules", rules.len());
    println!("  start-up                      {start:>10.1?}");
    println!("  memory, started               {:>10.1} MiB", idle - before);

    let ordinary: Vec<String> = (0..50).map(long_message).collect();
    let found = (0..1_000).filter(|seed| !rules.find(&ordinary::message(*seed)).is_empty());
    println!("  ordinary messages with a hit  {:>10} of 1,000", found.count());
    println!("  memory, 1,000 messages later  {:>10.1} MiB", resident() - before);
    let hostile: Vec<String> = (0..10).map(|seed| hostile(&file, seed)).collect();
    hostile.iter().for_each(|text| drop(black_box(rules.find(text))));
    println!("  memory, every regex compiled  {:>10.1} MiB", resident() - before);

    let every = every_regex(&file);
    let one_by_one = |text: &str| every.iter().filter(|regex| regex.is_match(text)).count();
    for (what, texts) in [("ordinary", &ordinary), ("hostile", &hostile)] {
        let (mut times, mut ratios) = (Vec::new(), Vec::new());
        for _ in 0..9 {
            let ours = each(texts, |text| rules.find(text).len());
            let plain = each(texts, one_by_one);
            times.push(ours);
            ratios.push(ours / plain);
        }
        println!(
            "  {what:<9} message of 4 KB     {:>10.1} µs, {:.4} of one regex after the other",
            median(times),
            median(ratios)
        );
    }
}

/// Herald's own secrets: twenty of them, as many as there are settings that hold one.
fn own_secrets() {
    let secrets: Vec<SecretString> = (0..20)
        .map(|n| SecretString::from(format!("token-{n}-of-the-benchmark-{n:032x}")))
        .collect();
    let since = busy();
    let own = Own::new(&secrets);
    println!(
        "\nown secrets, {} of them\n  start-up                      {:>10.1?}",
        secrets.len(),
        busy() - since
    );
    let ordinary: Vec<String> = (0..50).map(long_message).collect();
    let encoded: Vec<String> = ordinary.iter().map(|text| text.replace(' ', "%2520")).collect();
    for (what, texts) in [("ordinary", &ordinary), ("encoded", &encoded)] {
        let times = (0..9).map(|_| each(texts, |text| usize::from(own.is_in(text)))).collect();
        println!("  {what:<9} message of 4 KB     {:>10.1} µs", median(times));
    }
}

/// 4 KB of ordinary messages.
fn long_message(seed: u64) -> String {
    let mut text = String::new();
    for part in seed * 1_000.. {
        text += &ordinary::message(part);
        if text.len() >= BYTES {
            break;
        }
    }
    text.truncate(text.floor_char_boundary(BYTES));
    text
}

/// Nothing but keywords: 4 KB of them, all of a file in ten of these.
fn hostile(file: &str, seed: u64) -> String {
    let table: toml::Table = file.parse().unwrap();
    let rules = table["rules"].as_array().unwrap();
    let lists = rules.iter().filter_map(|rule| rule.get("keywords")?.as_array());
    let mut words: Vec<&str> = lists.flatten().filter_map(toml::Value::as_str).collect();
    let first = usize::try_from(seed).unwrap() * 40 % words.len();
    words.rotate_left(first);
    words
        .iter()
        .flat_map(|word| [*word, " = \"", *word, "-1aZ\" "])
        .flat_map(str::chars)
        .cycle()
        .take(BYTES)
        .collect()
}

/// Every regex of a file, compiled at once.
fn every_regex(file: &str) -> Vec<Regex> {
    let table: toml::Table = file.parse().unwrap();
    let rules = table["rules"].as_array().unwrap();
    let sources = rules.iter().filter_map(|rule| rule.get("regex")?.as_str());
    let ascii = syntax::Config::new().unicode(false).utf8(false);
    let config = meta::Config::new().utf8_empty(false);
    let build =
        |source| Regex::builder().syntax(ascii).configure(config.clone()).build(source).unwrap();
    sources.map(build).collect()
}

/// Microseconds for one text.
fn each(texts: &[String], work: impl Fn(&str) -> usize) -> f64 {
    let (since, busy, mut times) = (Instant::now(), busy(), 0_usize);
    while since.elapsed() < TURN {
        for text in texts {
            black_box(work(black_box(text)));
        }
        times += texts.len();
    }
    (self::busy() - busy).as_secs_f64() * 1e6 / times as f64
}

/// How long a processor has worked for this thread: what else runs does not count.
fn busy() -> Duration {
    // The kernel brings the figure up to date when a thread lets go of its processor.
    std::thread::yield_now();
    let line = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(line.split(' ').next().unwrap().parse().unwrap())
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// Memory that this process holds, without files such as the binary, in MiB.
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
}
