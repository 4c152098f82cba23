//! A house with a gate: Herald behind `/mcp`'s authentication, clients it knows, and an issuer it trusts.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use herald::app::{App, Mode, Serves};
use herald::clock::{ManualClock, SystemClock, Timestamp};
use herald::config::Client;
use herald::mcp::{self, Clients, Credentials, Door, Gate, Herald, InFlight, TokenHash, jwt};
use herald::model::ClientName;
use herald::policy;
use herald::server;
use herald::telemetry::Metrics;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::issuer::Issuer;
use crate::world::{EVERY, SLACK, Workspace, message};

pub const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
pub const AGENT: &str = "system:serviceaccount:kagent:k8s-agent";
/// The time, in seconds, when every test begins.
pub const NOW: i64 = 1_800_000_000;

/// A Herald behind a gate, in front of a workspace.
pub struct House {
    pub workspace: Workspace,
    pub gate: Gate,
    pub clock: ManualClock,
    base: String,
    http: reqwest::Client,
    stop: CancellationToken,
}

impl Drop for House {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub challenge: Option<String>,
    pub retry_after: Option<String>,
    pub body: Value,
}

impl House {
    pub async fn open(config: &mcp::Config, clients: &Clients) -> Self {
        Self::open_at(Workspace::open().await, config, clients).await
    }

    pub async fn open_at(workspace: Workspace, config: &mcp::Config, clients: &Clients) -> Self {
        let mode = Mode {
            data_dir: None,
            own_only: false,
            deduplicate: false,
            wait: Duration::from_secs(10),
            serves: Serves::Mcp,
        };
        let stop = CancellationToken::new();
        let mut settings = workspace.config(&[]);
        // What they may do is not the question here: all of it.
        settings.clients = clients.keys().map(|name| (name.to_string(), anywhere())).collect();
        let app = App::build(settings, mode, Arc::new(SystemClock), stop.clone()).await.unwrap();
        let _working = app.start();
        let clock = ManualClock::at(Timestamp(NOW * 1000));
        let door = Door::new(config, clients).unwrap();
        let gate = Gate::new(door, Arc::new(clock.clone()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let metrics = Metrics::new(&[]);
        let herald = Herald::new(Arc::clone(app.notifier()), metrics.clone());
        let in_flight = InFlight::default();
        let routes = mcp::http(herald, config, &gate, address, &in_flight).unwrap();
        tokio::spawn(server::serve(listener, routes, in_flight, metrics, stop.clone()));
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { workspace, gate, clock, base: format!("http://{address}"), http, stop }
    }

    pub async fn ask(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
        // Each from an address of its own: wrong tokens are slowed down by address.
        static CALLERS: AtomicU32 = AtomicU32::new(2);
        let [.., high, low] = CALLERS.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        let http =
            reqwest::Client::builder().no_proxy().local_address(IpAddr::from([127, 1, high, low]));
        let http = http.build().unwrap();
        let mut request = http.post(format!("{}{path}", self.base)).json(body);
        for (name, value) in
            [("accept", "application/json, text/event-stream")].iter().chain(headers)
        {
            request = request.header(*name, *value);
        }
        answer(request.send().await.unwrap()).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        answer(self.http.get(format!("{}{path}", self.base)).send().await.unwrap()).await
    }

    pub async fn send(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let text = format!("message {}", COUNT.fetch_add(1, Ordering::Relaxed));
        let (tool, arguments) = message(SLACK, &text, json!({}));
        self.ask(path, headers, &call(&tool, &arguments)).await
    }

    /// Sends a message; its ID.
    pub async fn opens(&self, token: &str) -> String {
        let sent = self.send("/mcp", &[("authorization", &format!("Bearer {token}"))]).await;
        assert_eq!(sent.status, 200, "{token}: {}", sent.body);
        let receipt = &sent.body["result"]["structuredContent"];
        assert_eq!(receipt["status"], "delivered", "{}", sent.body);
        receipt["delivery_id"].as_str().unwrap().to_owned()
    }

    /// Shows these headers, and sees that nothing comes of it.
    pub async fn refuses(&self, what: &str, headers: &[(&str, &str)]) -> Answer {
        let before = self.workspace.sends(SLACK).len();
        let refused = self.send("/mcp", headers).await;
        assert_eq!(refused.status, 401, "{what}: {}", refused.body);
        assert!(refused.challenge.as_ref().unwrap().starts_with("Bearer"), "{what}");
        assert!(refused.body["error_description"].as_str().unwrap().len() > 20, "{what}");
        assert_eq!(self.workspace.sends(SLACK).len(), before, "{what} reached a tool");
        refused
    }

    pub async fn shut(&self, what: &str, token: &str) -> Answer {
        self.refuses(what, &[("authorization", &format!("Bearer {token}"))]).await
    }

    /// Whether the client of this token may see a delivery.
    pub async fn sees(&self, token: &str, delivery: &str, extra: &[(&str, &str)]) -> bool {
        let authorization = format!("Bearer {token}");
        let mut headers = vec![("authorization", authorization.as_str())];
        headers.extend(extra);
        let body = call("get_delivery", &json!({ "delivery_id": delivery }));
        self.ask("/mcp", &headers, &body).await.body["result"]["isError"] == false
    }
}

async fn answer(answer: reqwest::Response) -> Answer {
    let header = |name: &str| {
        let value = answer.headers().get(name);
        value.map(|value| value.to_str().unwrap().to_owned())
    };
    Answer {
        status: answer.status().as_u16(),
        challenge: header("www-authenticate"),
        retry_after: header("retry-after"),
        body: serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or_default(),
    }
}

fn anywhere() -> Client {
    let send = EVERY.map(str::to_owned).to_vec();
    let policy = policy::Config { send, ..policy::Config::default() };
    Client { policy, ..Client::default() }
}

pub fn call(tool: &str, arguments: &Value) -> Value {
    let params = json!({ "name": tool, "arguments": arguments });
    json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params })
}

fn hash(token: &str) -> TokenHash {
    TokenHash::new(format!("sha256:{:x}", Sha256::digest(token)))
}

pub fn client(name: &str, tokens: &[&str], subjects: &[&str]) -> (ClientName, Credentials) {
    let tokens = tokens.iter().map(|token| hash(token)).collect();
    let subjects = subjects.iter().map(|&subject| subject.to_owned()).collect();
    (ClientName::new(name), Credentials { tokens, subjects })
}

/// `k8s` by JWT and token, `helm` by token.
pub fn both() -> Clients {
    [client("k8s", &["k8s-token"], &[AGENT]), client("helm", &["helm-token"], &[])].into()
}

pub fn trusting(issuer: &Issuer) -> mcp::Config {
    let jwt = jwt::Config {
        issuer: Some(ISSUER.to_owned()),
        audience: vec!["herald".to_owned(), "https://herald.example/mcp".to_owned()],
        jwks_url: Url::parse(&issuer.url).ok(),
        ca_file: issuer.authority.clone(),
        ..jwt::Config::default()
    };
    mcp::Config { jwt, ..mcp::Config::default() }
}

pub fn claims() -> Value {
    json!({"iss": ISSUER, "aud": ["herald"], "sub": AGENT, "iat": NOW, "nbf": NOW, "exp": NOW + 600})
}

pub fn with(mut object: Value, name: &str, value: impl Into<Value>) -> Value {
    object[name] = value.into();
    object
}

pub fn without(mut object: Value, name: &str) -> Value {
    object.as_object_mut().unwrap().remove(name);
    object
}
