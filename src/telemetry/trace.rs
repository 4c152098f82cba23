//! Spans: what a piece of work was, how long it took, and what it belongs to.
//!
//! Herald makes its few spans by hand, on the OpenTelemetry API itself: no log filter decides what is exported, and nothing
//! that a library or a log line says gets into a span. Without an [exporter](super::otlp) a span is nothing at all.
//!
//! Attributes are names, numbers and IDs. Text that somebody wrote, a URL or a token must never become one.

use std::borrow::Cow;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry::trace::{FutureExt, Link, Status, TraceContextExt, Tracer, WithContext};
use opentelemetry::{Context, KeyValue, Value};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracer;

pub use opentelemetry::trace::SpanKind;

/// The longest `tracestate` that is passed on: <https://www.w3.org/TR/trace-context/#tracestate-limits>.
const MOST_STATE: usize = 512;

static TRACER: OnceLock<SdkTracer> = OnceLock::new();

/// Makes spans from now on. A second call changes nothing.
pub(super) fn trace_with(tracer: SdkTracer) {
    let _ = TRACER.set(tracer);
}

/// Whether spans are made.
#[must_use]
pub fn is_on() -> bool {
    TRACER.get().is_some()
}

/// What a piece of work goes back to: a W3C trace context (<https://www.w3.org/TR/trace-context/>). What is none counts as
/// nothing.
#[derive(Clone, Debug, Default)]
pub struct Origin(Context);

impl Origin {
    /// The origin that a `traceparent` and perhaps a `tracestate` name.
    #[must_use]
    pub fn read(traceparent: Option<&str>, tracestate: Option<&str>) -> Self {
        let traceparent = traceparent.filter(|text| is_traceparent(text));
        let tracestate = tracestate.filter(|text| text.len() <= MOST_STATE);
        let pair = Pair { traceparent, tracestate };
        Self(TraceContextPropagator::new().extract_with_context(&Context::new(), &pair))
    }

    /// The origin that was stored.
    #[must_use]
    pub fn stored(traceparent: Option<&str>) -> Self {
        Self::read(traceparent, None)
    }

    /// Whether there is one.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.0.has_active_span()
    }

    /// Does `work` as part of it; where there is no origin, as part of what it is part of anyway.
    pub fn around<F: Future>(&self, work: F) -> WithContext<F> {
        if TRACER.get().is_some() && self.is_known() {
            work.with_context(self.0.clone())
        } else {
            carry(work)
        }
    }
}

/// The library takes short numbers and signs too.
fn is_traceparent(text: &str) -> bool {
    let mut fields = text.split('-');
    let widths = [2, 32, 16, 2].into_iter().all(|width| {
        let field = fields.next().unwrap_or_default();
        field.len() == width && field.bytes().all(|b| b.is_ascii_hexdigit())
    });
    widths && (fields.next().is_none() || !text.starts_with("00"))
}

/// Whether a span was said to have failed.
#[derive(Default)]
struct Failed(AtomicBool);

/// What the requests that belong to a span say about themselves too.
struct Subject(Vec<KeyValue>);

/// What the request that `work` makes is called: a method's name, or a path without IDs. Never anything secret.
pub fn called<F: Future>(operation: impl Into<Cow<'static, str>>, work: F) -> WithContext<F> {
    match is_under_way() {
        true => work.with_context(Context::current_with_value(Operation(operation.into()))),
        false => carry(work),
    }
}

/// See [`called`].
struct Operation(Cow<'static, str>);

/// What the request that is made here is called.
pub(super) fn operation() -> Option<Cow<'static, str>> {
    Context::map_current(|context| context.get::<Operation>().map(|Operation(name)| name.clone()))
}

/// A piece of work, from its beginning until this is dropped.
#[derive(Debug)]
#[must_use = "dropping it ends it"]
pub struct Span(Option<Context>);

impl Span {
    /// Begins a piece of work that is part of what is under way here, if anything is.
    pub fn within(kind: SpanKind, name: impl Into<Cow<'static, str>>) -> Self {
        Self::start(kind, name.into(), &Context::current(), &[])
    }

    /// Begins a piece of work that goes back to `origin`.
    pub fn from(kind: SpanKind, name: impl Into<Cow<'static, str>>, origin: &Origin) -> Self {
        Self::start(kind, name.into(), &origin.0, &[])
    }

    /// Begins a piece of work that goes back to the first of `origins` and is linked to those that are `linked`.
    pub fn linked(
        kind: SpanKind,
        name: impl Into<Cow<'static, str>>,
        origin: &Origin,
        linked: &[Origin],
    ) -> Self {
        Self::start(kind, name.into(), &origin.0, linked)
    }

    /// Nothing.
    pub const fn none() -> Self {
        Self(None)
    }

    fn start(kind: SpanKind, name: Cow<'static, str>, parent: &Context, linked: &[Origin]) -> Self {
        let Some(tracer) = TRACER.get() else { return Self::none() };
        let known = linked.iter().filter(|origin| origin.is_known());
        let links = known.map(|origin| Link::with_context(origin.0.span().span_context().clone()));
        let builder = tracer.span_builder(name).with_kind(kind).with_links(links.collect());
        let span = tracer.build_with_context(builder, parent);
        // Not what is around it: what is said of that need not be true of this.
        Self(Some(enclosing(span)))
    }

    /// Says something about it.
    pub fn set(&self, key: &'static str, value: impl Into<Value>) {
        if let Some(context) = &self.0 {
            context.span().set_attribute(KeyValue::new(key, value));
        }
    }

    /// Says something about it and about each request that is part of it.
    pub fn set_for_all(&mut self, attributes: Vec<KeyValue>) {
        if let Some(context) = self.0.take() {
            context.span().set_attributes(attributes.iter().cloned());
            self.0 = Some(context.with_value(Subject(attributes)));
        }
    }

    /// Says what [`Span::set_for_all`] said of what is under way here.
    pub fn set_inherited(&self) {
        let Some(context) = &self.0 else { return };
        Context::map_current(|around| {
            if let Some(Subject(attributes)) = around.get::<Subject>() {
                context.span().set_attributes(attributes.iter().cloned());
            }
        });
    }

    /// It failed; `kind` is one of a few words. Only the first failure counts.
    pub fn fail(&self, kind: impl Into<Cow<'static, str>>) {
        if let Some(context) = &self.0 {
            fail(context, kind.into());
        }
    }

    /// Does `work` as this piece of work.
    pub fn around<F: Future>(&self, work: F) -> WithContext<F> {
        match &self.0 {
            Some(context) => work.with_context(context.clone()),
            None => carry(work),
        }
    }

    /// What is stored, so that work that is done later goes back to it.
    #[must_use]
    pub fn traceparent(&self) -> Option<String> {
        traceparent(self.0.as_ref()?)
    }

    /// The headers by which another service's work goes back to it. Nothing for a chat platform.
    #[must_use]
    pub fn headers(&self) -> HeaderMap {
        let mut headers = Headers::default();
        if let Some(context) = &self.0 {
            TraceContextPropagator::new().inject_context(context, &mut headers);
        }
        headers.0
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        // What it is around may be kept by others.
        if let Some(context) = &self.0 {
            context.span().end();
        }
    }
}

fn enclosing(span: impl opentelemetry::trace::Span + Send + Sync + 'static) -> Context {
    Context::new().with_value(Failed::default()).with_span(span)
}

fn fail(context: &Context, kind: Cow<'static, str>) {
    // The library would keep both, and OTLP wants each attribute once.
    if context.get::<Failed>().is_some_and(|Failed(before)| before.swap(true, Relaxed)) {
        return;
    }
    let span = context.span();
    span.set_attribute(KeyValue::new("error.type", kind));
    // The description is where others put their messages: it stays empty.
    span.set_status(Status::error(""));
}

/// Lets `work`, which is done in a task of its own, be part of what is under way here.
pub fn carry<F: Future>(work: F) -> WithContext<F> {
    work.with_current_context()
}

/// Says something about what is under way here.
pub fn note(key: &'static str, value: impl Into<Value>) {
    if TRACER.get().is_some() {
        Context::map_current(|context| context.span().set_attribute(KeyValue::new(key, value)));
    }
}

/// What is under way here failed; `kind` is one of a few words. Only the first failure counts.
pub fn note_failure(kind: impl Into<Cow<'static, str>>) {
    if TRACER.get().is_some() {
        Context::map_current(|context| fail(context, kind.into()));
    }
}

/// Whether anything is under way here that a span could be part of.
#[must_use]
pub fn is_under_way() -> bool {
    TRACER.get().is_some() && Context::map_current(Context::has_active_span)
}

/// What is stored, so that work that is done later goes back to what is under way here.
#[must_use]
pub fn current() -> Option<String> {
    TRACER.get()?;
    Context::map_current(traceparent)
}

/// The trace that what is under way here is part of, if it is exported.
pub(super) fn trace_id() -> Option<String> {
    TRACER.get()?;
    Context::map_current(|context| {
        let span = context.span();
        let span = span.span_context();
        span.is_sampled().then(|| span.trace_id().to_string())
    })
}

fn traceparent(context: &Context) -> Option<String> {
    let mut headers = Headers::default();
    TraceContextPropagator::new().inject_context(context, &mut headers);
    headers.0.get("traceparent")?.to_str().ok().map(str::to_owned)
}

struct Pair<'a> {
    traceparent: Option<&'a str>,
    tracestate: Option<&'a str>,
}

impl Extractor for Pair<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        match key {
            "traceparent" => self.traceparent,
            "tracestate" => self.tracestate,
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        vec!["traceparent", "tracestate"]
    }
}

#[derive(Default)]
struct Headers(HeaderMap);

impl Injector for Headers {
    fn set(&mut self, key: &str, value: String) {
        // An empty `tracestate` says nothing.
        if !value.is_empty()
            && let (Ok(name), Ok(value)) = (key.parse::<HeaderName>(), HeaderValue::try_from(value))
        {
            self.0.insert(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use opentelemetry::trace::TracerProvider;
    use opentelemetry_sdk::error::OTelSdkResult;
    use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanProcessor};

    use super::*;

    /// Keeps what ended.
    #[derive(Clone, Debug, Default)]
    struct Kept(Arc<Mutex<Vec<SpanData>>>);

    impl SpanProcessor for Kept {
        fn on_start(&self, _: &mut opentelemetry_sdk::trace::Span, _: &Context) {}

        fn on_end(&self, span: SpanData) {
            self.0.lock().unwrap().push(span);
        }

        fn force_flush(&self) -> OTelSdkResult {
            Ok(())
        }

        fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
            Ok(())
        }
    }

    #[test]
    fn what_fails_twice_says_the_first_failure_alone() {
        let kept = Kept::default();
        let provider = SdkTracerProvider::builder().with_span_processor(kept.clone()).build();
        let span = Span(Some(enclosing(provider.tracer("test").start("work"))));
        span.fail("first");
        let mut span = span;
        span.set_for_all(vec![KeyValue::new("said", "later")]);
        span.fail("second");
        drop(span);
        let kept = kept.0.lock().unwrap();
        let said: Vec<_> =
            kept[0].attributes.iter().map(|it| (it.key.as_str(), &it.value)).collect();
        let (first, later) = (Value::from("first"), Value::from("later"));
        assert_eq!(said, [("error.type", &first), ("said", &later)]);
        assert_eq!(kept[0].status, Status::error(""));
    }

    const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn what_is_no_trace_context_counts_as_nothing() {
        assert!(Origin::read(Some(TRACE), Some("vendor=1")).is_known());
        // Of a later version, only what is known of it is read.
        assert!(
            Origin::read(Some(&format!("{}-more", TRACE.replacen("00", "01", 1))), None).is_known()
        );
        for wrong in [
            "",
            "00",
            "00-1-2-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\nx: y",
        ] {
            assert!(!Origin::read(Some(wrong), None).is_known(), "{wrong:?}");
        }
    }

    #[test]
    fn a_trace_context_survives_being_stored() {
        let origin = Origin::read(Some(TRACE), Some("vendor=1"));
        assert_eq!(traceparent(&origin.0).as_deref(), Some(TRACE));
        let mut headers = Headers::default();
        TraceContextPropagator::new().inject_context(&origin.0, &mut headers);
        assert_eq!(headers.0["tracestate"], "vendor=1");
    }

    #[test]
    fn without_an_exporter_a_span_is_nothing() {
        let span = Span::from(SpanKind::Server, "tools/list", &Origin::stored(Some(TRACE)));
        assert!(span.traceparent().is_none() && span.headers().is_empty());
    }
}
