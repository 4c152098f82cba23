//! The workspace over real HTTP: what each vendor refuses, and each way to fail.

mod api;
mod discord;
mod discord_gateway;
mod faults;
mod slack;
mod slack_inbound;
mod telegram;

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use reqwest::{RequestBuilder, Response};
use serde_json::Value;

use super::{Tokens, World};
use crate::clock::{ManualClock, Timestamp};

const START: Timestamp = Timestamp(1_790_000_000_000);

/// A served workspace and a client that knows its tokens.
struct Served {
    world: World,
    clock: ManualClock,
    base: String,
    client: reqwest::Client,
}

async fn serve() -> Served {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let clock = ManualClock::at(START);
    let world = World::new(Arc::new(clock.clone()));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let router = world.router();
    tokio::spawn(async move { axum::serve(listener, router).await });
    let client =
        reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(20)).build().unwrap();
    Served { world, clock, base, client }
}

impl Served {
    fn slack(&self, method: &str) -> RequestBuilder {
        self.client
            .post(format!("{}/sandbox/slack/api/{method}", self.base))
            .bearer_auth(Tokens::default().slack)
    }

    fn discord(&self, method: Method, path: &str) -> RequestBuilder {
        self.client
            .request(method, format!("{}/sandbox/discord/api/v10{path}", self.base))
            .header("authorization", format!("Bot {}", Tokens::default().discord))
            .header("user-agent", "DiscordBot (https://example.org, 1.0)")
    }

    fn telegram(&self, method: &str) -> RequestBuilder {
        let token = Tokens::default().telegram;
        self.client.post(format!("{}/sandbox/telegram/bot{token}/{method}", self.base))
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    fn last_outcome(&self) -> String {
        self.world.requests().last().unwrap().outcome.clone()
    }
}

/// Status and JSON body of an answer.
async fn json(request: RequestBuilder) -> (u16, Value) {
    read(request.send().await.unwrap()).await
}

async fn read(response: Response) -> (u16, Value) {
    let status = response.status().as_u16();
    (status, response.json().await.unwrap())
}
