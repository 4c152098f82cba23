//! How fast Markdown becomes what each platform shows: `cargo bench --bench render`.
//!
//! Parsing, rendering and splitting take turns with pulldown-cmark alone, which only parses, on the same text.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "a measurement that cannot go on should stop"
)]

#[expect(dead_code, reason = "the other benchmarks use the rest")]
mod world;

use std::hint::black_box;
use std::time::{Duration, Instant};

use herald::platform::configured;
use herald::platform::http::{HttpClient, Settings};
use herald::render::parse;
use pulldown_cmark::{Options, Parser};
use world::{Workspace, argument, median};

/// How long one side of a round goes on.
const TURN: Duration = Duration::from_millis(100);

/// What an agent reports: a bit of everything.
const SECTION: &str = r#"
## Rollout of `checkout` to *eu-west-1*

Deployment **checkout-7d9f** is done: 12 of 12 pods are ready, see the
[dashboard](https://grafana.example.com/d/checkout?orgId=1&from=now-1h). Nothing is left to do; the previous
version stays for an hour & is then ~~kept~~ removed.

- error rate 0.02 %, as before
- p95 latency **182 ms**, was 210 ms
  - `GET /cart` 140 ms
  - `POST /order` 251 ms
1. no restarts
2. no warnings in `kubectl get events -n shop`

> The canary of 09:12 had one timeout against the database;
> it did not come back.

```console
$ kubectl rollout status deployment/checkout -n shop
deployment "checkout" successfully rolled out
```

| pod | node | restarts | memory |
|:----|:-----|---------:|-------:|
| checkout-7d9f-1 | node-a | 0 | 212 MiB |
| checkout-7d9f-2 | node-b | 0 | 208 MiB |
"#;

#[tokio::main]
async fn main() {
    let config = Workspace::open().await.config();
    let http = HttpClient::new(&Settings::default()).unwrap();
    let platforms = configured(&config.slack, &config.discord, &config.telegram, &http);
    let text = SECTION.repeat(3);
    let options = Options::ENABLE_TABLES
        | Options::ENABLE_STRIKETHROUGH
        | Options::ENABLE_TASKLISTS
        | Options::ENABLE_FOOTNOTES;
    println!(
        "\n{} bytes of Markdown, MB a second, and the ratio to pulldown-cmark alone",
        text.len()
    );
    for platform in platforms {
        let (mut rates, mut ratios) = (Vec::new(), Vec::new());
        for _ in 0..argument("--rounds", 15) {
            let ours = rate(&text, |text| platform.render(&parse(text)).unwrap().len());
            let bare = rate(&text, |text| Parser::new_ext(text, options).count());
            rates.push(ours);
            ratios.push(ours / bare);
        }
        println!(
            "  {:<10} {:>8.1} {:>6.3}",
            platform.kind().as_str(),
            median(rates),
            median(ratios)
        );
    }
}

/// Megabytes a second.
fn rate<T>(text: &str, work: impl Fn(&str) -> T) -> f64 {
    let (since, mut times) = (Instant::now(), 0_usize);
    while since.elapsed() < TURN {
        black_box(work(black_box(text)));
        times += 1;
    }
    (times * text.len()) as f64 / since.elapsed().as_secs_f64() / 1e6
}
