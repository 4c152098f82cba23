//! Requests that are wrong in as many ways as somebody thought of, from a seed.

use std::ops::Range;

use serde_json::{Value, json};

use super::signature;

/// SplitMix64: the same seed says the same.
pub struct Dice(pub u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn within(&mut self, range: Range<usize>) -> usize {
        let width = u64::try_from(range.end - range.start).unwrap();
        range.start + usize::try_from(self.next() % width).unwrap()
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.within(0..n) == 0
    }

    fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.within(0..of.len())].clone()
    }
}

/// How the sender behaves once it has sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Waits for the answer, which has to come.
    Listens,
    /// Sends no more, and waits for the end of the connection, with or without an answer.
    Stops,
    /// Is gone at once.
    Leaves,
}

#[derive(Clone, Debug)]
pub struct Attempt {
    pub path: String,
    /// To the port of `/metrics`.
    pub metrics: bool,
    pub bytes: Vec<u8>,
    pub manner: Manner,
}

/// What the requests are aimed at.
pub struct Aim<'a> {
    pub token: &'a str,
    pub secret: &'a str,
    pub now: i64,
}

const PATHS: [&str; 12] = [
    "/mcp",
    "/slack/events",
    "/healthz",
    "/readyz",
    "/metrics",
    "/.well-known/oauth-protected-resource",
    "/.well-known/oauth-protected-resource/mcp",
    "/.well-known/oauth-authorization-server",
    "/",
    "/mcp/",
    "/mcp/..%2f..%2fetc/passwd",
    "/\u{1f480}?%00=%ff",
];

pub fn attempt(dice: &mut Dice, aim: &Aim<'_>) -> Attempt {
    let metrics = dice.one_in(12);
    let path = match dice.within(0..10) {
        0..5 => "/mcp".to_owned(),
        5 | 6 => "/slack/events".to_owned(),
        _ => dice.pick(&PATHS).to_owned(),
    };
    if dice.one_in(4) {
        return no_http(dice, path, metrics);
    }
    let mut head = Head::new(dice, &path, aim);
    let body = match path.as_str() {
        "/mcp" => json_rpc(dice),
        "/slack/events" => slack(dice, &mut head, aim),
        _ if dice.one_in(2) => json_rpc(dice),
        _ => Vec::new(),
    };
    let body = if dice.one_in(400) { vec![b' '; 2 * 1024 * 1024 + 1] } else { body };
    let mut manner = match dice.within(0..20) {
        0 => Manner::Leaves,
        1 => Manner::Stops,
        _ => Manner::Listens,
    };
    let mut bytes = head.bytes(dice, &body);
    if dice.one_in(15) {
        bytes.truncate(dice.within(0..bytes.len()));
        manner = dice.pick(&[Manner::Leaves, Manner::Stops]);
    }
    Attempt { path, metrics, bytes, manner }
}

struct Head {
    method: &'static str,
    path: String,
    headers: Vec<(String, String)>,
}

impl Head {
    /// Mostly right, so that what is wrong gets far.
    fn new(dice: &mut Dice, path: &str, aim: &Aim<'_>) -> Self {
        let methods =
            ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "BREW"];
        let method = if dice.one_in(8) { dice.pick(&methods) } else { "POST" };
        let mut headers = Vec::new();
        let mut add = |name: &str, value: &str| headers.push((name.to_owned(), value.to_owned()));
        add("host", if dice.one_in(30) { "evil.example" } else { "localhost" });
        add("connection", "close");
        let kinds = [
            "text/plain",
            "application/jsonx",
            "",
            "multipart/form-data",
            "application/json; charset=utf-16",
        ];
        add("content-type", if dice.one_in(15) { dice.pick(&kinds) } else { "application/json" });
        let accepts = ["text/html", "*/*", "application/json", "", ";q=;;,,"];
        let both = "application/json, text/event-stream";
        add("accept", if dice.one_in(15) { dice.pick(&accepts) } else { both });
        let bearer = format!("Bearer {}", aim.token);
        let tokens = [
            "Bearer",
            "Bearer ",
            "Basic Og==",
            "Bearer a b",
            "Bearer eyJhbGciOiJub25lIn0.e30.",
            "Bearer \u{7f}",
        ];
        match dice.within(0..12) {
            0 => add("authorization", dice.pick(&tokens)),
            1 => {}
            2 => {
                add("authorization", &bearer);
                add("authorization", "Bearer other");
            }
            _ => add("authorization", &bearer),
        }
        let versions =
            ["2025-11-25", "2026-07-28", "-1", "9999-99-99", "2025-11-25, 2026-07-28", ""];
        if dice.one_in(2) {
            add("mcp-protocol-version", dice.pick(&versions));
        }
        if dice.one_in(6) {
            add("mcp-session-id", "../../x");
            add("last-event-id", "-1");
            add("mcp-method", dice.pick(&["tools/call", "", "\u{9}"]));
            add("mcp-name", dice.pick(&["list_channels", "x", "=?base64?////?="]));
        }
        if dice.one_in(20) {
            add("origin", dice.pick(&["null", "https://evil.example", "x", ""]));
        }
        if dice.one_in(20) {
            add("expect", dice.pick(&["100-continue", "the-unexpected"]));
        }
        if dice.one_in(20) {
            add("upgrade", dice.pick(&["websocket", "h2c"]));
        }
        if dice.one_in(20) {
            add("content-encoding", "gzip");
            add("traceparent", "00-zz-zz-01");
            add("x-user-id", "root");
        }
        Self { method, path: path.to_owned(), headers }
    }

    fn add(&mut self, name: &str, value: &str) {
        self.headers.push((name.to_owned(), value.to_owned()));
    }

    fn bytes(&self, dice: &mut Dice, body: &[u8]) -> Vec<u8> {
        let mut bytes = format!("{} {} HTTP/1.1\r\n", self.method, self.path).into_bytes();
        for (name, value) in &self.headers {
            bytes.extend(format!("{name}: {value}\r\n").into_bytes());
        }
        if dice.one_in(4) {
            bytes.extend(b"transfer-encoding: chunked\r\n\r\n");
            for chunk in body.chunks(dice.within(1..4096).max(body.len() / 100)) {
                bytes.extend(format!("{:x};x=\"y\"\r\n", chunk.len()).into_bytes());
                bytes.extend(chunk);
                bytes.extend(b"\r\n");
            }
            bytes.extend(b"0\r\nx-trailer: 1\r\n\r\n");
        } else {
            bytes.extend(format!("content-length: {}\r\n\r\n", body.len()).into_bytes());
            bytes.extend(body);
        }
        bytes
    }
}

/// What is no HTTP at all, or not the HTTP that it says it is.
fn no_http(dice: &mut Dice, path: String, metrics: bool) -> Attempt {
    let long = "x".repeat(dice.within(33_000..70_000));
    let post =
        format!("POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n");
    let chunked = format!("{post}transfer-encoding: chunked\r\n\r\n");
    let garbage: Vec<u8> =
        (0..dice.within(1..2000)).map(|_| dice.next().to_le_bytes()[0]).collect();
    let bytes = match dice.within(0..28) {
        0 => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x12\x04\0\0\0\0\0".to_vec(),
        1 => b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".repeat(20),
        2 => garbage,
        3 => format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nx: {long}\r\n\r\n").into_bytes(),
        4 => format!("GET {path}?{long} HTTP/1.1\r\nhost: localhost\r\n\r\n").into_bytes(),
        5 => {
            let many: String = (0..dice.within(90..300)).map(|n| format!("x-{n}: y\r\n")).collect();
            format!("GET {path} HTTP/1.1\r\n{many}\r\n").into_bytes()
        }
        6 => format!("{post}content-length: 5\r\ncontent-length: 6\r\n\r\n{{}}").into_bytes(),
        7 => format!("{post}content-length: -1\r\n\r\n{{}}").into_bytes(),
        8 => format!("{post}content-length: 99999999999999999999\r\n\r\n{{}}").into_bytes(),
        9 => format!(
            "{post}content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n"
        )
        .into_bytes(),
        10 => format!("{post}transfer-encoding: gzip, chunked, identity\r\n\r\n{{}}").into_bytes(),
        11 => format!("{chunked}xyz\r\n{{}}\r\n0\r\n\r\n").into_bytes(),
        12 => format!("{chunked}ffffffffffffffffff\r\n{{}}").into_bytes(),
        13 => format!("{chunked}2\r\n{{}}0\r\n\r\n").into_bytes(),
        14 => format!("{chunked}2;{long}\r\n{{}}\r\n0\r\n\r\n").into_bytes(),
        15 => format!("{chunked}0\r\nx: {long}\r\n\r\n").into_bytes(),
        16 => format!("GET  {path}  HTTP/1.1\r\n\r\n").into_bytes(),
        17 => format!("GET {path} HTTP/9.9\r\n\r\n").into_bytes(),
        18 => format!("GET {path}\r\n\r\n").into_bytes(),
        19 => b"\0\0\0\0\0\0".repeat(100),
        20 => format!("GET {path} HTTP/1.1\r\nhost: a\0b\r\n\r\n").into_bytes(),
        21 => format!("GET {path} HTTP/1.1\r\n no name\r\n: x\r\n\r\n").into_bytes(),
        22 => format!("GET {path} HTTP/1.1\nhost: localhost\n\n").into_bytes(),
        23 => b"\r\n".repeat(500),
        24 => format!("GET {path} HTTP/1.0\r\n\r\n").into_bytes(),
        25 => format!("{post}\r\n").repeat(dice.within(2..30)).into_bytes(),
        26 => Vec::new(),
        _ => {
            let length = dice.within(3..1_000_000);
            format!("{post}content-length: {length}\r\n\r\n{{}}").into_bytes()
        }
    };
    let manner = dice.pick(&[Manner::Stops, Manner::Stops, Manner::Leaves]);
    Attempt { path, metrics, bytes, manner }
}

/// A body for `/mcp`: no JSON, no JSON-RPC, no MCP, or a call that makes no sense.
fn json_rpc(dice: &mut Dice) -> Vec<u8> {
    let rpc = |method: Value, params: Value| json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
    let fine = rpc(
        json!("tools/call"),
        json!({"name": "list_channels", "arguments": {"platform": "slack"}}),
    );
    let fine = fine.to_string().into_bytes();
    let text = |text: &str| {
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"send_message_to_slack","arguments":{{"channel_id":"C0PRIVATE","text":{text}}}}}}}"#)
            .into_bytes()
    };
    match dice.within(0..26) {
        0 => {
            let at = dice.within(0..fine.len());
            fine[..at].to_vec()
        }
        1 => {
            let (open, n) = (dice.pick(&["[", "{\"a\":", "[{\"\":"]), dice.within(100..20_000));
            open.repeat(n).into_bytes()
        }
        2 => {
            let n = dice.within(100..300);
            text(&format!("{}{}", "[".repeat(n), "]".repeat(n)))
        }
        3 => format!("[{}1]", "[],".repeat(dice.within(1..20_000))).into_bytes(),
        4 => text(dice.pick(&["1e999", "-1e999", "99999999999999999999999999", "0.1e-9999", "-0", "00", "1.", "+1", "0x1"])),
        5 => text(dice.pick(&[r#""\ud800""#, r#""\udc00\ud800""#, r#""\u00""#, r#""\x41""#, "\"\t\"", "\"\0\""])),
        6 => text(dice.pick(&["NaN", "Infinity", "undefined", "'x'", "\"x\",", "/**/\"x\"", "nul"])),
        7 => br#"{"jsonrpc":"2.0","jsonrpc":"2.0","id":1,"id":2,"method":"ping","method":"tools/list"}"#.to_vec(),
        8 => [b"\xef\xbb\xbf", fine.as_slice()].concat(),
        9 => fine.iter().flat_map(|byte| [*byte, 0]).collect(),
        10 | 11 => {
            let mut bytes = fine;
            for _ in 0..dice.within(1..6) {
                let at = dice.within(0..bytes.len());
                bytes[at] = dice.next().to_le_bytes()[0];
            }
            bytes
        }
        12 => dice.pick(&["[]", "[[]]", "null", "0", "\"\"", "true", "{}", "[1,2]", ""]).into(),
        13 => json!([rpc(json!("ping"), json!({})), rpc(json!("tools/list"), json!({}))]).to_string().into(),
        14 => {
            let mut call = rpc(json!("tools/list"), json!({}));
            let field = dice.pick(&["jsonrpc", "id", "method", "params"]);
            call[field] = anything(dice, 2);
            call.to_string().into()
        }
        15 => {
            let mut call = rpc(json!("tools/list"), json!({}));
            let field = dice.pick(&["jsonrpc", "id", "method", "params"]);
            call.as_object_mut().unwrap().remove(field);
            call["result"] = anything(dice, 1);
            call["error"] = anything(dice, 1);
            call.to_string().into()
        }
        16 => {
            let methods = ["", "tools/call ", "rpc.discover", "__proto__", "server/discover", "logging/setLevel",
                "resources/subscribe", "sampling/createMessage", "notifications/cancelled",
                "notifications/progress", "notifications/initialized", "tasks/get", "\u{0}"];
            rpc(json!(dice.pick(&methods)), anything(dice, 2)).to_string().into()
        }
        17 => {
            let version = match dice.within(0..3) {
                0 => anything(dice, 1),
                _ => json!(dice.pick(&["-1", "", "9999-99-99", "2024-11-05", "2026-07-28", "\u{0}"])),
            };
            let hello = json!({"protocolVersion": version, "capabilities": anything(dice, 2), "clientInfo": anything(dice, 2)});
            rpc(json!("initialize"), hello).to_string().into()
        }
        18 => {
            let methods = ["prompts/get", "resources/read", "completion/complete", "tools/call", "prompts/list"];
            let params = json!({"name": anything(dice, 1), "uri": anything(dice, 1), "ref": anything(dice, 2),
                "argument": anything(dice, 2), "arguments": anything(dice, 2), "cursor": anything(dice, 1), "_meta": anything(dice, 2)});
            rpc(json!(dice.pick(&methods)), params).to_string().into()
        }
        19 => {
            let meta = json!({"io.modelcontextprotocol/protocolVersion": anything(dice, 1),
                "io.modelcontextprotocol/clientCapabilities": anything(dice, 1), "progressToken": anything(dice, 1), "traceparent": anything(dice, 1)});
            rpc(json!("tools/list"), json!({"_meta": meta})).to_string().into()
        }
        _ => {
            let tools = ["send_message_to_slack", "send_message_to_discord", "send_message_to_telegram",
                "update_message", "list_channels", "get_delivery", "rm -rf", ""];
            let mut arguments = json!({"channel_id": "C0PRIVATE", "chat_id": "-1001000000002", "text": "x"});
            for _ in 0..dice.within(1..4) {
                let names = ["channel_id", "chat_id", "text", "thread_ts", "thread_key", "reply_to", "silent",
                    "reply_broadcast", "idempotency_key", "delivery_id", "platform", "message_thread_id", "__proto__"];
                arguments[dice.pick(&names)] = anything(dice, 2);
            }
            let call = json!({"name": dice.pick(&tools), "arguments": arguments});
            rpc(json!("tools/call"), call).to_string().into()
        }
    }
}

/// A value of any kind.
fn anything(dice: &mut Dice, depth: usize) -> Value {
    match dice.within(0..if depth == 0 { 12 } else { 15 }) {
        0 => Value::Null,
        1 => json!(dice.one_in(2)),
        2 => json!(-1),
        3 => json!(u64::MAX),
        4 => json!(1e300),
        5 => json!(""),
        6 => json!("x".repeat(dice.within(1..50_000))),
        7 => json!("\u{0}\u{1}\u{1b}[31m\r\n\u{7f}"),
        8 => json!("\u{202e}\u{2066}\u{200b}\u{e0041}\u{feff}\u{ffff}"),
        9 => json!("a\u{301}".repeat(dice.within(1..2000))),
        10 => json!("../../../../etc/passwd"),
        11 => json!("'; DROP TABLE deliveries; --"),
        12 => json!([anything(dice, depth - 1), anything(dice, depth - 1)]),
        13 => json!({"": anything(dice, depth - 1), "\u{0}": anything(dice, depth - 1)}),
        _ => json!([]),
    }
}

/// A body for `/slack/events`: forged, or signed and senseless.
fn slack(dice: &mut Dice, head: &mut Head, aim: &Aim<'_>) -> Vec<u8> {
    let body = match dice.within(0..6) {
        0 => json_rpc(dice),
        1 => anything(dice, 2).to_string().into(),
        2 => json!({"type": dice.pick(&["event_callback", "url_verification", "app_rate_limited", "block_actions", ""]),
            "challenge": anything(dice, 1), "event_id": anything(dice, 1), "team_id": anything(dice, 1),
            "event": anything(dice, 2), "user": anything(dice, 2), "actions": anything(dice, 2)})
        .to_string()
        .into(),
        3 => json!({"type": "event_callback", "event_id": anything(dice, 0), "event": {
            "type": dice.pick(&["message", "app_mention", "reaction_added"]), "user": anything(dice, 1), "ts": anything(dice, 1),
            "text": anything(dice, 1), "channel": anything(dice, 1), "files": anything(dice, 2), "blocks": anything(dice, 2)}})
        .to_string()
        .into(),
        4 => format!("payload={}", dice.pick(&["%7B", "%7B%7D", "%ff", "null", "%5B%5D", "%00"])).into(),
        _ => format!("command=%2F{}&text=%00&user_id=&channel_id=%ff&&&=&=", "x".repeat(dice.within(0..9))).into(),
    };
    if dice.one_in(2) {
        head.add("content-type", "application/x-www-form-urlencoded");
    }
    let time = match dice.within(0..8) {
        0 => dice.pick(&["-1", "0", "", "999999999999", "99999999999999999999", "x"]).to_owned(),
        _ => aim.now.to_string(),
    };
    let signature = match dice.within(0..6) {
        0 => dice
            .pick(&[
                "v0=",
                "",
                "v0=zz",
                "v1=00",
                "v0=0000000000000000000000000000000000000000000000000000000000000000",
            ])
            .to_owned(),
        1 => signature("another", &time, &body),
        _ => signature(aim.secret, &time, &body),
    };
    head.add("x-slack-request-timestamp", &time);
    head.add("x-slack-signature", &signature);
    body
}
