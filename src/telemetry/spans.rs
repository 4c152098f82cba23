//! The spans that Herald makes, each in a function: what it is called, what it says, what it goes back to.
//!
//! HTTP's attributes are those of <https://opentelemetry.io/docs/specs/semconv/http/http-spans/>; those of MCP requests are
//! in `mcp`. What is Herald's own begins with `herald.`.

use http::{Method, StatusCode};
use opentelemetry::KeyValue;
use url::Url;

#[cfg(doc)]
use super::trace::called;
use super::trace::{Origin, Span, SpanKind, is_under_way, note, note_failure, operation};
use crate::model::{Delivery, DeliveryState, Event, Occurrence};

/// One attempt at a delivery. It goes back to the call or turn that asked for it, and is linked to it as well: it may be
/// long over, and then some backends show only the link.
pub fn delivery(delivery: &Delivery) -> Span {
    let asked = Origin::stored(delivery.traceparent.as_deref());
    let name = format!("deliver {}", delivery.channel.platform());
    let mut span = Span::linked(SpanKind::Consumer, name, &asked, std::slice::from_ref(&asked));
    span.set("herald.client", delivery.client.as_str().to_owned());
    span.set("herald.delivery.step", number(delivery.cursor));
    span.set("herald.delivery.steps", number(delivery.steps.len()));
    span.set_for_all(vec![
        KeyValue::new("herald.platform", delivery.channel.platform().as_str()),
        KeyValue::new("herald.channel.id", delivery.channel.id().to_owned()),
        KeyValue::new("herald.delivery.id", delivery.id.to_string()),
        KeyValue::new("herald.delivery.attempt", i64::from(delivery.attempts)),
    ]);
    span
}

/// How the attempt under way left the delivery.
pub fn delivery_settled(delivery: &Delivery) {
    note("herald.delivery.state", delivery.state.as_str());
    if delivery.state == DeliveryState::Delivered {
        return;
    }
    if let Some(reason) = delivery.reason {
        note("herald.reason", reason.as_str());
        note_failure(reason.as_str());
    }
}

/// An event on its way into the store.
pub fn event(event: &Event) -> Span {
    let platform = event.visit.platform();
    let span = Span::from(SpanKind::Consumer, format!("take {platform} event"), &Origin::default());
    let kind = match event.what {
        Occurrence::Message { .. } => "message",
        Occurrence::Command { .. } => "command",
        Occurrence::Press { .. } => "press",
    };
    span.set("herald.platform", platform.as_str());
    span.set("herald.channel.id", event.visit.channel.id().to_owned());
    span.set("herald.event.kind", kind);
    span
}

/// Whether the event was `new`: Slack tells a mention twice, and every platform what was not acknowledged.
pub fn event_stored(span: &Span, new: Option<&bool>) {
    match new {
        Some(new) => span.set("herald.event.new", *new),
        None => span.fail("not_stored"),
    }
}

/// A stretch of a turn: until it ends, pauses, or is let go of. It goes back to the first of the events that it answers,
/// and is linked to the others.
pub fn turn<'t>(
    agent: &str,
    conversation: &str,
    turn_id: &str,
    events: impl Iterator<Item = Option<&'t str>>,
) -> Span {
    let mut events = events.map(Origin::stored);
    let first = events.next().unwrap_or_default();
    let others: Vec<Origin> = events.collect();
    let span = Span::linked(SpanKind::Internal, "turn", &first, &others);
    span.set("gen_ai.agent.name", agent.to_owned());
    span.set("herald.conversation", conversation.to_owned());
    span.set("herald.turn.id", turn_id.to_owned());
    span
}

/// A request over HTTP, if it is part of something: nobody wants a trace of each long poll. Of the URL nothing but the
/// host is kept, because the rest may hold a token; whoever makes the request says what it is [called].
pub fn request(method: &Method, url: &Url) -> Span {
    if !is_under_way() {
        return Span::none();
    }
    let operation = operation();
    let name = match &operation {
        Some(operation) => format!("{method} {operation}"),
        None => method.to_string(),
    };
    let span = Span::within(SpanKind::Client, name);
    span.set_inherited();
    server(&span, method, url);
    if let Some(operation) = operation {
        span.set("herald.operation", operation);
    }
    span
}

fn server(span: &Span, method: &Method, url: &Url) {
    span.set("http.request.method", method.as_str().to_owned());
    if let Some(host) = url.host_str() {
        span.set("server.address", host.to_owned());
    }
    if let Some(port) = url.port_or_known_default() {
        span.set("server.port", i64::from(port));
    }
}

/// What a request was answered with, where whoever made it tells what that means.
pub fn status(span: &Span, status: StatusCode) {
    span.set("http.response.status_code", i64::from(status.as_u16()));
}

/// What a request was answered with, and whether that is a failure.
pub fn answered(span: &Span, answer: StatusCode) {
    status(span, answer);
    if answer.is_client_error() || answer.is_server_error() {
        span.fail(answer.as_str().to_owned());
    }
}

/// A JSON-RPC request to an agent.
pub fn agent_call(url: &Url, method: &'static str) -> Span {
    if !is_under_way() {
        return Span::none();
    }
    let span = Span::within(SpanKind::Client, method);
    span.set("rpc.system.name", "jsonrpc");
    span.set("rpc.method", method);
    server(&span, &Method::POST, url);
    span
}

/// A request for an agent's card.
pub fn agent_card(url: &Url) -> Span {
    if !is_under_way() {
        return Span::none();
    }
    let span = Span::within(SpanKind::Client, "GET agent card");
    server(&span, &Method::GET, url);
    span
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
