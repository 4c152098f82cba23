//! One choke point in front of any server: every request gets an answer in time, whatever happens behind.
#![expect(deprecated, reason = "it passes on what a server of the older era may offer")]

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use rmcp::model::{
    CacheScope, CallToolRequestParams, CallToolResponse, CallToolResult, CompleteRequestParams,
    CompleteResult, ContentBlock, DiscoverResult, ErrorCode, GetPromptRequestParams,
    GetPromptResponse, InitializeRequestParams, InitializeResult, ListPromptsResult,
    ListResourceTemplatesResult, ListResourcesResult, ListToolsResult, MetaObject,
    PaginatedRequestParams, ProtocolVersion, ReadResourceRequestParams, ReadResourceResponse,
    ServerConfig, SetLevelRequestParams, SubscribeRequestParams, Tool, UnsubscribeRequestParams,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer, ServerHandler};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::prompts;
use super::span::{self, Target};
use crate::telemetry::trace::Span;

/// The longest a request takes. The second net: a send gives up waiting after 18 s by itself, and kagent cuts a call
/// at 30 s.
pub const CALL_LIMIT: Duration = Duration::from_millis(19_500);

/// How long a client may keep a list: it changes only when the operator changes the configuration.
const LIST_TTL_MS: u64 = 300_000;

const SERVER_INFO: &str = "io.modelcontextprotocol/serverInfo";

/// The requests under way, and the means to cut them short. Cloning it shares it.
#[derive(Clone, Debug, Default)]
pub struct InFlight {
    requests: TaskTracker,
    cut: CancellationToken,
}

impl InFlight {
    /// Counts a request until the token is dropped.
    pub fn begin(&self) -> TaskTrackerToken {
        self.requests.token()
    }

    /// Waits until no request is under way.
    pub async fn drained(&self) {
        self.requests.close();
        self.requests.wait().await;
    }

    /// Cuts what is still under way.
    pub fn cut(&self) {
        self.cut.cancel();
    }

    pub(super) fn token(&self) -> CancellationToken {
        self.cut.child_token()
    }
}

/// A server behind guards: a panic becomes an answer, a tool call ends in time, a cancelled one stops waiting, results
/// say who answered, and lists say how long they hold.
pub struct Guarded<H> {
    inner: Arc<H>,
    identity: Arc<MetaObject>,
    in_flight: InFlight,
}

impl<H> Clone for Guarded<H> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            identity: Arc::clone(&self.identity),
            in_flight: self.in_flight.clone(),
        }
    }
}

impl<H: ServerHandler> Guarded<H> {
    /// Puts the guards in front of `inner`.
    pub fn new(inner: H, in_flight: InFlight) -> Self {
        let mut identity = MetaObject::default();
        if let Ok(info) = serde_json::to_value(inner.get_info().server_info) {
            identity.insert(SERVER_INFO.into(), info);
        }
        Self { inner: Arc::new(inner), identity: Arc::new(identity), in_flight }
    }

    /// Runs a request, and shows it as `span`.
    async fn run<T>(
        &self,
        span: Span,
        request: impl Future<Output = Result<T, ErrorData>>,
    ) -> Result<T, ErrorData> {
        let answer = span.around(self.guard(request)).await;
        span::end(&span, &answer, false);
        answer
    }

    /// Runs a request. rmcp would answer nothing at all if it panicked.
    async fn guard<T>(
        &self,
        request: impl Future<Output = Result<T, ErrorData>>,
    ) -> Result<T, ErrorData> {
        let _counted = self.in_flight.begin();
        let request = AssertUnwindSafe(request).catch_unwind();
        match tokio::time::timeout(CALL_LIMIT, request).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => {
                tracing::error!("a request panicked; its caller is told of an internal error");
                Err(panicked())
            }
            Err(_) => Err(late()),
        }
    }

    /// Says who answered, where the era has a place for it.
    fn sign(&self, modern: bool, meta: &mut Option<MetaObject>) {
        if modern {
            let identity = MetaObject::clone(&self.identity);
            meta.get_or_insert_default().extend(identity);
        }
    }
}

/// Says how long a result holds, where the era has a place for it, and for this client alone: what it may see depends
/// on who it is.
fn hold(modern: bool, ttl_ms: &mut Option<u64>, scope: &mut Option<CacheScope>) {
    if modern {
        ttl_ms.get_or_insert(LIST_TTL_MS);
        scope.get_or_insert(CacheScope::Private);
    } else {
        (*ttl_ms, *scope) = (None, None);
    }
}

fn panicked() -> ErrorData {
    ErrorData::internal_error("internal error: Herald's log tells more", None)
}

fn late() -> ErrorData {
    ErrorData::internal_error(
        "Herald took too long to answer. Sending the same again within 60 seconds, or with the same idempotency_key, does \
         not send a message twice",
        None,
    )
}

fn is_modern(context: &RequestContext<RoleServer>) -> bool {
    context.protocol_version().is_some_and(|version| version >= ProtocolVersion::V_2026_07_28)
}

impl<H: ServerHandler> ServerHandler for Guarded<H> {
    fn get_info(&self) -> ServerConfig {
        self.inner.get_info()
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        self.inner.get_tool(name)
    }

    async fn initialize(
        &self,
        request: InitializeRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<InitializeResult, ErrorData> {
        let span = span::begin("initialize", &Target::Nothing, &context);
        self.run(span, self.inner.initialize(request, context)).await
    }

    async fn discover(
        &self,
        context: RequestContext<RoleServer>,
    ) -> Result<DiscoverResult, ErrorData> {
        let span = span::begin("server/discover", &Target::Nothing, &context);
        self.run(span, self.inner.discover(context)).await
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let modern = is_modern(&context);
        let cancelled = context.ct.clone();
        let known = self.get_tool(&request.name);
        let known = known.as_ref().map(|tool| tool.name.as_ref());
        let span = span::begin("tools/call", &Target::Tool(known), &context);
        let call = span.around(self.guard(self.inner.call_tool(request, context)));
        let answer = tokio::select! {
            biased;
            // Nobody reads the answer; an accepted delivery goes on by itself.
            () = cancelled.cancelled() => Err(ErrorData::internal_error("the call was cancelled", None)),
            answer = call => answer,
        };
        span::end(&span, &answer, span::tool_failed(&answer));
        match answer {
            Ok(CallToolResponse::Complete(mut result)) => {
                self.sign(modern, &mut result.meta);
                Ok(result.into())
            }
            // These are results too: over stdio a JSON-RPC error may never reach the caller.
            Err(error) if error.code == ErrorCode::INTERNAL_ERROR => {
                let mut result = CallToolResult::error(vec![ContentBlock::text(error.message)]);
                self.sign(modern, &mut result.meta);
                Ok(result.into())
            }
            other => other,
        }
    }

    async fn list_tools(
        &self,
        request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let modern = is_modern(&context);
        let span = span::begin("tools/list", &Target::Nothing, &context);
        let mut result = self.run(span, self.inner.list_tools(request, context)).await?;
        self.sign(modern, &mut result.meta);
        hold(modern, &mut result.ttl_ms, &mut result.cache_scope);
        Ok(result)
    }

    async fn list_prompts(
        &self,
        request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        let modern = is_modern(&context);
        let span = span::begin("prompts/list", &Target::Nothing, &context);
        let mut result = self.run(span, self.inner.list_prompts(request, context)).await?;
        self.sign(modern, &mut result.meta);
        hold(modern, &mut result.ttl_ms, &mut result.cache_scope);
        Ok(result)
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        let modern = is_modern(&context);
        let known = Some(request.name.as_str()).filter(|name| prompts::exists(name));
        let span = span::begin("prompts/get", &Target::Prompt(known), &context);
        let mut answer = self.run(span, self.inner.get_prompt(request, context)).await?;
        if let GetPromptResponse::Complete(result) = &mut answer {
            self.sign(modern, &mut result.meta);
        }
        Ok(answer)
    }

    async fn list_resources(
        &self,
        request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        let modern = is_modern(&context);
        let span = span::begin("resources/list", &Target::Nothing, &context);
        let mut result = self.run(span, self.inner.list_resources(request, context)).await?;
        self.sign(modern, &mut result.meta);
        hold(modern, &mut result.ttl_ms, &mut result.cache_scope);
        Ok(result)
    }

    async fn list_resource_templates(
        &self,
        request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        let modern = is_modern(&context);
        let span = span::begin("resources/templates/list", &Target::Nothing, &context);
        let mut result =
            self.run(span, self.inner.list_resource_templates(request, context)).await?;
        self.sign(modern, &mut result.meta);
        hold(modern, &mut result.ttl_ms, &mut result.cache_scope);
        Ok(result)
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let modern = is_modern(&context);
        let span = span::begin("resources/read", &Target::Nothing, &context);
        let mut answer = self.run(span, self.inner.read_resource(request, context)).await?;
        if let ReadResourceResponse::Complete(result) = &mut answer {
            self.sign(modern, &mut result.meta);
            hold(modern, &mut result.ttl_ms, &mut result.cache_scope);
        }
        Ok(answer)
    }

    async fn set_level(
        &self,
        request: SetLevelRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        let span = span::begin("logging/setLevel", &Target::Nothing, &context);
        self.run(span, self.inner.set_level(request, context)).await
    }

    async fn subscribe(
        &self,
        request: SubscribeRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        let span = span::begin("resources/subscribe", &Target::Nothing, &context);
        self.run(span, self.inner.subscribe(request, context)).await
    }

    async fn unsubscribe(
        &self,
        request: UnsubscribeRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        let span = span::begin("resources/unsubscribe", &Target::Nothing, &context);
        self.run(span, self.inner.unsubscribe(request, context)).await
    }

    async fn complete(
        &self,
        request: CompleteRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        let modern = is_modern(&context);
        let span = span::begin("completion/complete", &Target::Nothing, &context);
        let mut result = self.run(span, self.inner.complete(request, context)).await?;
        self.sign(modern, &mut result.meta);
        Ok(result)
    }
}
