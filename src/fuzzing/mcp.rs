//! The MCP server's route, in process: whatever is posted, the answer is JSON-RPC, and no fault of the server's.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use http::{Request, StatusCode};
use serde_json::Value;
use tower::ServiceExt;

use crate::clock::SystemClock;
use crate::mcp::{self, Clients, Config, Door, Gate, InFlight};
use crate::platform::fuzzing::block_on;

/// The era without a handshake. Its headers repeat what the body says.
const MODERN: &str = "2026-07-28";
/// After so many requests the server is made anew, so that what it stored does not add up.
const LIFETIME: u32 = 500;
/// The most bytes of an answer.
const MOST_BYTES: usize = 8 * 1024 * 1024;

thread_local! {
    static SERVER: RefCell<Option<(Router, u32)>> = const { RefCell::new(None) };
}

pub(super) fn post(body: &[u8]) {
    let router = SERVER.with_borrow_mut(|server| {
        let (router, used) = server
            .take()
            .filter(|(_, used)| *used < LIFETIME)
            .unwrap_or_else(|| (block_on(server_with_two_channels()), 0));
        *server = Some((router.clone(), used + 1));
        router
    });
    let message: Value = serde_json::from_slice(body).unwrap_or_default();
    let mut request = Request::post("/mcp")
        .header("host", "127.0.0.1")
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream");
    if let Some((method, name)) = modern(&message) {
        request = request.header("mcp-protocol-version", MODERN).header("mcp-method", method);
        if let Some(name) = name {
            request = request.header("mcp-name", name);
        }
    }
    // A name that no header can hold is refused by whoever sends it.
    let Ok(request) = request.body(Body::from(body.to_vec())) else { return };
    let (status, answer) = block_on(async {
        let answer = router.oneshot(request).await.unwrap();
        (answer.status(), to_bytes(answer.into_body(), MOST_BYTES).await.unwrap())
    });
    let answer = String::from_utf8(answer.to_vec()).unwrap();
    assert!(!status.is_server_error(), "{status}: {answer}");
    // What a panic in a tool is answered with.
    assert!(!answer.contains("internal error"), "{answer}");
    if status == StatusCode::OK {
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer.get("jsonrpc").and_then(Value::as_str), Some("2.0"), "{answer}");
        assert!(answer.get("result").is_some() != answer.get("error").is_some(), "{answer}");
    }
}

async fn server_with_two_channels() -> Router {
    let herald = mcp::testing::herald().await;
    let listen = SocketAddr::from(([127, 0, 0, 1], 3000));
    let config = Config::default();
    let door = Door::new(&config, &Clients::new()).unwrap();
    let gate = Gate::new(door, Arc::new(SystemClock));
    mcp::http(herald, &config, &gate, listen, &InFlight::default()).unwrap()
}

/// The method of a message of the era without a handshake, and what it is about.
fn modern(message: &Value) -> Option<(&str, Option<&str>)> {
    let meta = message.pointer("/params/_meta/io.modelcontextprotocol~1protocolVersion");
    (meta.and_then(Value::as_str) == Some(MODERN)).then_some(())?;
    let name = ["/params/name", "/params/uri"].iter().find_map(|at| message.pointer(at)?.as_str());
    Some((message.get("method")?.as_str()?, name))
}
