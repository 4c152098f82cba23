//! The span of an MCP request, after OpenTelemetry's conventions for MCP:
//! <https://github.com/open-telemetry/semantic-conventions-genai/blob/main/docs/gen-ai/mcp.md>.

use rmcp::model::{CallToolResponse, NumberOrString, ProtocolVersion};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer};

use crate::telemetry::trace::{self, Origin, Span, SpanKind};

/// What a request is about, as far as a span says it. What a client made up may be anything, a token too: a name that
/// Herald does not know is left out, and so is an ID or a version that is free text.
pub(super) enum Target<'a> {
    /// A tool, by its name if there is such a tool.
    Tool(Option<&'a str>),
    /// A prompt, by its name if there is such a prompt.
    Prompt(Option<&'a str>),
    /// A resource's URI stays out.
    Nothing,
}

/// Begins the span of a request: it goes back to the `traceparent` in `_meta`, or else in the HTTP header.
pub(super) fn begin(
    method: &'static str,
    target: &Target<'_>,
    context: &RequestContext<RoleServer>,
) -> Span {
    if !trace::is_on() {
        return Span::none();
    }
    let name = match target {
        Target::Tool(name) | Target::Prompt(name) => *name,
        Target::Nothing => None,
    };
    let title = name.map_or_else(|| method.to_owned(), |name| format!("{method} {name}"));
    let span = Span::from(SpanKind::Server, title, &origin(context));
    span.set("mcp.method.name", method);
    if let Some(version) = version(context) {
        span.set("mcp.protocol.version", version);
    }
    match (target, name) {
        (Target::Tool(_), name) => {
            span.set("gen_ai.operation.name", "execute_tool");
            if let Some(name) = name {
                span.set("gen_ai.tool.name", name.to_owned());
            }
        }
        (Target::Prompt(_), Some(name)) => span.set("gen_ai.prompt.name", name.to_owned()),
        _ => {}
    }
    if let NumberOrString::Number(id) = context.id {
        span.set("jsonrpc.request.id", id.to_string());
    }
    if parts(context).is_some() {
        span.set("network.transport", "tcp");
        span.set("network.protocol.name", "http");
    } else {
        span.set("network.transport", "pipe");
    }
    span
}

/// How it ended. A tool that failed answers without an error of the protocol.
pub(super) fn end<T>(span: &Span, answer: &Result<T, ErrorData>, tool_failed: bool) {
    match answer {
        Err(error) => {
            let code = error.code.0.to_string();
            span.set("rpc.response.status_code", code.clone());
            span.fail(code);
        }
        Ok(_) if tool_failed => span.fail("tool_error"),
        Ok(_) => {}
    }
}

/// Whether a tool says that it failed.
pub(super) fn tool_failed(answer: &Result<CallToolResponse, ErrorData>) -> bool {
    matches!(answer, Ok(CallToolResponse::Complete(result)) if result.is_error == Some(true))
}

/// The version of the protocol, if there is such a version. Without a session, HTTP's header tells it.
fn version(context: &RequestContext<RoleServer>) -> Option<&'static str> {
    let spoken = context.protocol_version();
    let spoken = spoken.as_ref().map(ProtocolVersion::as_str);
    let spoken = spoken.or_else(|| header(context, "mcp-protocol-version"))?;
    let known = ProtocolVersion::KNOWN_VERSIONS.iter().map(ProtocolVersion::as_str);
    known.into_iter().find(|known| *known == spoken)
}

fn origin(context: &RequestContext<RoleServer>) -> Origin {
    let meta = Origin::read(context.meta.get_traceparent(), context.meta.get_tracestate());
    if meta.is_known() {
        return meta;
    }
    Origin::read(header(context, "traceparent"), header(context, "tracestate"))
}

fn header<'c>(context: &'c RequestContext<RoleServer>, name: &str) -> Option<&'c str> {
    parts(context)?.headers.get(name)?.to_str().ok()
}

fn parts(context: &RequestContext<RoleServer>) -> Option<&::http::request::Parts> {
    context.extensions.get::<::http::request::Parts>()
}
