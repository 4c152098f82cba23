//! The fixture tools, prompts and resources that the MCP conformance suite asks for, on Herald's own transport,
//! middleware and guards: what the suite then finds is about them. Started as `conformance_server [ADDRESS]`.
#![expect(deprecated, reason = "the suite still asks for logging in the older era")]

mod asking;
mod catalogue;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use herald::mcp::{self, InFlight};
use herald::server::{self, Check, Readiness};
use herald::telemetry::Metrics;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ClientCapabilities,
    CompleteRequestParams, CompleteResult, CompletionInfo, GetPromptRequestParams,
    GetPromptResponse, GetPromptResult, Implementation, ListPromptsResult,
    ListResourceTemplatesResult, ListResourcesResult, ListToolsResult, LoggingLevel,
    LoggingMessageNotificationParam, PaginatedRequestParams, ProgressNotificationParam,
    ProtocolVersion, ReadResourceRequestParams, ReadResourceResponse, ServerCapabilities,
    ServerConfig, SetLevelRequestMethod, SetLevelRequestParams, SubscribeRequestParams,
    UnsubscribeRequestParams,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer, ServerHandler};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

type Context = RequestContext<RoleServer>;

struct Fixtures {
    key: [u8; 16],
}

/// What a table holds, as rmcp's type.
fn typed<T: serde::de::DeserializeOwned>(value: Value) -> Result<T, ErrorData> {
    serde_json::from_value(value)
        .map_err(|error| ErrorData::internal_error(error.to_string(), None))
}

fn say(text: impl Into<String>) -> CallToolResponse {
    CallToolResult::success(vec![rmcp::model::ContentBlock::text(text)]).into()
}

fn modern(context: &Context) -> bool {
    context.protocol_version().is_some_and(|version| version >= ProtocolVersion::V_2026_07_28)
}

async fn pause() {
    tokio::time::sleep(Duration::from_millis(50)).await;
}

async fn log(context: &Context, text: &str) -> Result<(), ErrorData> {
    let message = LoggingMessageNotificationParam::new(LoggingLevel::Info, json!(text));
    let sent = context.peer.notify_logging_message(message).await;
    sent.map_err(|error| ErrorData::internal_error(error.to_string(), None))
}

async fn logging(context: &Context) -> Result<CallToolResponse, ErrorData> {
    // The newer era logs only for a request that asks for it.
    if !modern(context) {
        log(context, "Tool execution started").await?;
        pause().await;
        log(context, "Tool processing data").await?;
        pause().await;
        log(context, "Tool execution completed").await?;
    }
    Ok(say("logged"))
}

async fn progress(context: &Context) -> Result<CallToolResponse, ErrorData> {
    for done in [0.0, 50.0, 100.0] {
        if let Some(token) = context.meta.get_progress_token() {
            let step = ProgressNotificationParam::new(token, done).with_total(100.0);
            let sent = context.peer.notify_progress(step).await;
            sent.map_err(|error| ErrorData::internal_error(error.to_string(), None))?;
        }
        pause().await;
    }
    Ok(say("done"))
}

fn needs_sampling(context: &Context) -> Result<CallToolResponse, ErrorData> {
    let declared = context.client_capabilities().unwrap_or_default();
    if declared.sampling.is_some() {
        return Ok(say("sampling is declared"));
    }
    let needed: ClientCapabilities = typed(json!({"sampling": {}}))?;
    Err(ErrorData::missing_required_client_capability(needed))
}

impl ServerHandler for Fixtures {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_tools()
            .enable_prompts()
            .enable_resources()
            .enable_completions()
            .build();
        ServerConfig::new(capabilities)
            .with_server_info(Implementation::new("herald-fixtures", env!("CARGO_PKG_VERSION")))
    }

    async fn list_tools(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: Context,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(typed(catalogue::tools())?))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: Context,
    ) -> Result<CallToolResponse, ErrorData> {
        let name = request.name.as_ref();
        if let Some(content) = catalogue::content(name) {
            return Ok(CallToolResult::success(typed(content)?).into());
        }
        match name {
            "test_error_handling" => {
                let text = "This tool intentionally returns an error for testing";
                Ok(CallToolResult::error(vec![rmcp::model::ContentBlock::text(text)]).into())
            }
            "test_tool_with_logging" | "test_logging_tool" => logging(&context).await,
            "test_tool_with_progress" | "test_streaming_elicitation" => progress(&context).await,
            "test_missing_capability" => needs_sampling(&context),
            _ => {
                let answers = request.input_responses.unwrap_or_default();
                let state = request.request_state.as_deref();
                let declared = context.client_capabilities().unwrap_or_default();
                asking::tool(&self.key, name, &answers, state, &declared)
            }
        }
    }

    async fn list_prompts(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: Context,
    ) -> Result<ListPromptsResult, ErrorData> {
        Ok(ListPromptsResult::with_all_items(typed(catalogue::prompts())?))
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        _context: Context,
    ) -> Result<GetPromptResponse, ErrorData> {
        let arguments = request.arguments.unwrap_or_default();
        let argument = |name| arguments.get(name).and_then(Value::as_str).unwrap_or_default();
        if request.name == "test_input_required_result_prompt" {
            return asking::prompt(&request.input_responses.unwrap_or_default());
        }
        match catalogue::prompt(&request.name, argument) {
            Some(messages) => Ok(GetPromptResult::new(typed(messages)?).into()),
            None => {
                Err(ErrorData::invalid_params(format!("Unknown prompt: {}", request.name), None))
            }
        }
    }

    async fn list_resources(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: Context,
    ) -> Result<ListResourcesResult, ErrorData> {
        Ok(ListResourcesResult::with_all_items(typed(catalogue::resources())?))
    }

    async fn list_resource_templates(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: Context,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        let templates = typed(catalogue::resource_templates())?;
        Ok(ListResourceTemplatesResult::with_all_items(templates))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _context: Context,
    ) -> Result<ReadResourceResponse, ErrorData> {
        match catalogue::resource(&request.uri) {
            Some(contents) => {
                Ok(rmcp::model::ReadResourceResult::new(vec![typed(contents)?]).into())
            }
            None => {
                let data = json!({"uri": request.uri});
                Err(ErrorData::resource_not_found("Resource not found", Some(data)))
            }
        }
    }

    async fn complete(
        &self,
        request: CompleteRequestParams,
        _context: Context,
    ) -> Result<CompleteResult, ErrorData> {
        let known = ["paris", "park", "party"].into_iter().map(str::to_owned);
        let values = known.filter(|value| value.starts_with(&request.argument.value));
        let completion = CompletionInfo::with_all_values(values.collect());
        Ok(CompleteResult::new(completion.unwrap_or_default()))
    }

    async fn set_level(
        &self,
        _request: SetLevelRequestParams,
        context: Context,
    ) -> Result<(), ErrorData> {
        if modern(&context) {
            return Err(ErrorData::method_not_found::<SetLevelRequestMethod>());
        }
        Ok(())
    }

    async fn subscribe(
        &self,
        _request: SubscribeRequestParams,
        _context: Context,
    ) -> Result<(), ErrorData> {
        Ok(())
    }

    async fn unsubscribe(
        &self,
        _request: UnsubscribeRequestParams,
        _context: Context,
    ) -> Result<(), ErrorData> {
        Ok(())
    }
}

struct Always;

#[async_trait]
impl Readiness for Always {
    async fn checks(&self) -> BTreeMap<String, Check> {
        BTreeMap::new()
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3001".to_owned());
    let address: SocketAddr = address.parse()?;
    let (in_flight, stop) = (InFlight::default(), CancellationToken::new());
    let fixtures = Fixtures { key: rand::random() };
    let config = mcp::Config::default();
    let door = mcp::Door::new(&config, &mcp::Clients::new()).map_err(anyhow::Error::msg)?;
    let gate = mcp::Gate::new(door, Arc::new(herald::clock::SystemClock));
    let routes =
        mcp::http(fixtures, &config, &gate, address, &in_flight).map_err(anyhow::Error::msg)?;
    let routes = server::router(routes, Arc::new(Always), stop.clone());
    let listener = tokio::net::TcpListener::bind(address).await?;
    server::serve(listener, routes, in_flight, Metrics::default(), stop).await?;
    Ok(())
}
