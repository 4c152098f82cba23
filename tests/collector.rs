//! A collector as far as traces and logs go: it takes OTLP over HTTP, keeps it, and reads it as strictly as the protocol is.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsServiceRequest, ExportLogsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value as Scalar;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span as Sent;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use prost::Message as _;
use tokio::net::TcpListener;

/// A collector on a port of its own, which keeps what it is sent.
pub struct Collector {
    pub url: String,
    bodies: Arc<Mutex<Vec<(HeaderMap, Bytes)>>>,
    logs: Arc<Mutex<Vec<(HeaderMap, Bytes)>>>,
}

/// A log record as it arrived.
#[derive(Clone, Debug)]
pub struct Record {
    pub event: String,
    pub body: String,
    /// In nanoseconds since the Unix epoch.
    pub at: u64,
    pub attributes: BTreeMap<String, String>,
    pub service: String,
    /// What the request was authorized with.
    pub authorization: String,
}

/// A span as it arrived.
#[derive(Clone, Debug)]
pub struct Span {
    pub name: String,
    pub kind: SpanKind,
    pub trace: String,
    pub id: String,
    pub parent: String,
    /// Trace and span IDs.
    pub links: Vec<(String, String)>,
    pub attributes: BTreeMap<String, String>,
    pub failed: bool,
    pub service: String,
}

impl Span {
    pub fn says(&self, key: &str) -> &str {
        self.attributes.get(key).map_or("", String::as_str)
    }
}

impl Collector {
    pub async fn open() -> Self {
        let bodies = Arc::<Mutex<Vec<(HeaderMap, Bytes)>>>::default();
        let take =
            async |State(bodies): State<Arc<Mutex<Vec<_>>>>, headers: HeaderMap, body: Bytes| {
                assert_eq!(headers["content-type"], "application/x-protobuf");
                bodies.lock().unwrap().push((headers, body));
                ExportTraceServiceResponse::default().encode_to_vec()
            };
        let logs = Arc::<Mutex<Vec<(HeaderMap, Bytes)>>>::default();
        let take_logs =
            async |State(logs): State<Arc<Mutex<Vec<_>>>>, headers: HeaderMap, body: Bytes| {
                assert_eq!(headers["content-type"], "application/x-protobuf");
                logs.lock().unwrap().push((headers, body));
                ExportLogsServiceResponse::default().encode_to_vec()
            };
        let router = Router::new().route("/v1/traces", post(take)).with_state(bodies.clone());
        let takes_logs = Router::new().route("/v1/logs", post(take_logs)).with_state(logs.clone());
        let router = router.merge(takes_logs);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, bodies, logs }
    }

    /// Every byte of the traces that came.
    pub fn everything(&self) -> Vec<u8> {
        let bodies = self.bodies.lock().unwrap();
        bodies.iter().flat_map(|(_, body)| body.to_vec()).collect()
    }

    /// The values of one header.
    pub fn header(&self, name: &str) -> Vec<String> {
        let bodies = self.bodies.lock().unwrap();
        let values = bodies.iter().filter_map(|(headers, _)| headers.get(name));
        values.map(|value| value.to_str().unwrap().to_owned()).collect()
    }

    pub fn spans(&self) -> Vec<Span> {
        let bodies = self.bodies.lock().unwrap();
        let mut spans = Vec::new();
        for (_, body) in bodies.iter() {
            let request = ExportTraceServiceRequest::decode(body.clone()).unwrap();
            for resource in request.resource_spans {
                let about = attributes(resource.resource.unwrap().attributes);
                for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                    spans.push(read(span, &about["service.name"]));
                }
            }
        }
        spans
    }

    /// The log records that came.
    pub fn logs(&self) -> Vec<Record> {
        let mut records = Vec::new();
        for (headers, body) in self.logs.lock().unwrap().iter() {
            let request = ExportLogsServiceRequest::decode(body.clone()).unwrap();
            let authorization = headers.get("authorization").map_or("", |it| it.to_str().unwrap());
            for resource in request.resource_logs {
                let about = attributes(resource.resource.unwrap().attributes);
                for sent in resource.scope_logs.into_iter().flat_map(|scope| scope.log_records) {
                    let Some(Scalar::StringValue(body)) = sent.body.unwrap().value else {
                        panic!("a body is no text");
                    };
                    records.push(Record {
                        event: sent.event_name,
                        body,
                        at: sent.time_unix_nano,
                        attributes: attributes(sent.attributes),
                        service: about["service.name"].clone(),
                        authorization: authorization.to_owned(),
                    });
                }
            }
        }
        records
    }

    pub fn named(&self, name: &str) -> Vec<Span> {
        self.spans().into_iter().filter(|span| span.name == name).collect()
    }

    pub fn one(&self, name: &str) -> Span {
        let mut found = self.named(name);
        let all: Vec<_> = self.spans().into_iter().map(|span| span.name).collect();
        assert_eq!(found.len(), 1, "{name} in {all:?}");
        found.remove(0)
    }
}

fn read(span: Sent, service: &str) -> Span {
    assert!(span.events.is_empty(), "an event may carry text");
    let status = span.status.clone().unwrap_or_default();
    assert_eq!(status.message, "", "a description may carry text");
    Span {
        kind: span.kind(),
        name: span.name,
        trace: hex(&span.trace_id),
        id: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
        links: span.links.iter().map(|link| (hex(&link.trace_id), hex(&link.span_id))).collect(),
        attributes: attributes(span.attributes),
        failed: status.code == 2,
        service: service.to_owned(),
    }
}

fn attributes(list: Vec<KeyValue>) -> BTreeMap<String, String> {
    let text = |value: AnyValue| match value.value {
        Some(Scalar::StringValue(text)) => text,
        Some(Scalar::IntValue(number)) => number.to_string(),
        Some(Scalar::BoolValue(yes)) => yes.to_string(),
        other => panic!("{other:?}"),
    };
    let mut found = BTreeMap::new();
    for pair in list {
        let value = text(pair.value.unwrap());
        // OTLP wants each key once; a collector keeps either of two.
        assert_eq!(found.insert(pair.key.clone(), value), None, "{} twice", pair.key);
    }
    found
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
