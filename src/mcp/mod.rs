//! The MCP room: tools, prompts, resources and completion over streamable HTTP and stdio. rmcp's types stay in here.
//!
//! One server type, [`Herald`], serves both transports and both protocol eras (2025-11-25 with `initialize`,
//! 2026-07-28 without). It only translates: what a message may do and how it travels is the [`Notifier`]'s business.
//! [`Guarded`] stands in front of it, so that no request stays without an answer.

mod auth;
mod completion;
mod guarded;
mod limits;
mod parameters;
mod prompts;
mod resources;
mod span;
mod tools;
mod transport;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::num::NonZeroU32;
use std::sync::Arc;

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, CompleteRequestParams, CompleteResult,
    ContentBlock, GetPromptRequestParams, GetPromptResponse, Implementation, JsonObject,
    ListPromptsResult, ListResourcesResult, ListToolsResult, PaginatedRequestParams,
    ReadResourceRequestParams, ReadResourceResponse, ServerCapabilities, ServerConfig, Tool,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer, ServerHandler};
use schemars::JsonSchema;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use url::Url;

pub use auth::{Clients, Credentials, Door, Gate, TokenHash, check_exposure, jwt};
pub use guarded::{CALL_LIMIT, Guarded, InFlight};
pub use transport::{StdioError, check, http, serve_stdio, stdio_pipes};

use crate::model::{ClientName, PlatformKind, Receipt, Status};
use crate::notifier::{Notifier, SubmitError};
use crate::policy::Policy;
use crate::telemetry::Metrics;
use auth::Principal;
use parameters::{
    GetDelivery, ListChannels, SendToDiscord, SendToSlack, SendToTelegram, UpdateMessage,
};
use tools::{Action, Catalogue, Channels, Offer};

const INSTRUCTIONS: &str = "\
Herald sends messages to Slack, Discord and Telegram. Write plain Markdown; Herald renders it for each platform and splits long texts.
Post only to the channels that a tool's schema or `list_channels` names. To keep one topic together, give all its messages the same `thread_key`, such as incident-42.
A result with `status` `delivered`, `queued` or `unknown` is accepted: do not send the message again. `failed` says what to change. `update_message` edits what you sent.";

/// How a call of a tool that does not exist is counted.
const UNKNOWN: &str = "unknown";

/// Who may call, and from which web pages.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Mcp")]
pub struct Config {
    /// The bearer token of the one client `default`. Better given as `HERALD_TOKEN` or `HERALD_TOKEN_FILE`. A leading
    /// `Bearer ` is ignored.
    #[schemars(with = "Option<String>")]
    pub token: Option<SecretString>,
    /// JWTs as tokens: of an OAuth authorization server, or of Kubernetes' service accounts.
    pub jwt: jwt::Config,
    /// Where clients find this server, such as `https://herald.example.com/mcp`: with `jwt`, this tells them where to get
    /// a token (RFC 9728).
    pub public_url: Option<Url>,
    /// Serve `/mcp` on an address that other machines reach, without authentication.
    pub allow_anonymous: bool,
    /// Host names that requests may be addressed to, each optionally with a port, besides the loopback names; `*` is
    /// any. Default: any, but only loopback names when listening on loopback.
    pub allowed_hosts: Vec<String>,
    /// Origins of web pages that may call, such as `https://inspector.example.com`; `*` is any. Default: none, but
    /// pages served from loopback when listening on loopback.
    pub allowed_origins: Vec<String>,
    /// The most requests of one client in a minute, of which all may come at once; a call takes up to three. 0: any
    /// number. More are answered with 429. Default: 600.
    pub requests_per_minute: Option<u32>,
    /// The most requests under way at once, of all clients together. More are answered with 503. Default: 512.
    pub requests_at_once: Option<NonZeroU32>,
    /// The most requests under way at once of one client. More are answered with 429. Default: 128.
    pub client_requests_at_once: Option<NonZeroU32>,
}

/// The MCP server. Cloning it shares it.
#[derive(Clone)]
pub struct Herald {
    shared: Arc<Shared>,
}

struct Shared {
    notifier: Arc<Notifier>,
    metrics: Metrics,
    tools: Catalogue,
    info: ServerConfig,
    /// Runs before each tool call, so that tests can make one panic or hang.
    #[cfg(test)]
    before_call: Option<testing::Hook>,
}

impl Herald {
    /// A server which speaks through `notifier`. Calls no platform.
    #[must_use]
    pub fn new(notifier: Arc<Notifier>, metrics: Metrics) -> Self {
        let capabilities = ServerCapabilities::builder()
            .enable_tools()
            .enable_prompts()
            .enable_resources()
            .enable_completions()
            .build();
        let info = ServerConfig::new(capabilities)
            .with_server_info(
                Implementation::new("herald", env!("CARGO_PKG_VERSION"))
                    .with_title("Herald")
                    .with_description(env!("CARGO_PKG_DESCRIPTION")),
            )
            .with_instructions(INSTRUCTIONS);
        let tools = Catalogue::new();
        for tool in tools.names(&notifier.platforms()).chain([UNKNOWN]) {
            metrics.begin_tool(tool);
        }
        Self {
            shared: Arc::new(Shared {
                notifier,
                metrics,
                tools,
                info,
                #[cfg(test)]
                before_call: None,
            }),
        }
    }

    /// What a client may use on each platform, by these rules.
    fn offers<'a>(&self, policy: &'a Policy, client: &ClientName) -> Vec<Offer<'a>> {
        let platforms = self.shared.notifier.platforms().into_iter();
        platforms.map(|platform| (platform, policy.allowed(client, platform))).collect()
    }

    async fn channels(&self, client: &ClientName, platform: Option<PlatformKind>) -> Channels {
        Channels { channels: self.shared.notifier.channels(client, platform).await }
    }

    async fn call(
        &self,
        client: &ClientName,
        action: Action,
        schema: &JsonObject,
        mut arguments: Option<JsonObject>,
    ) -> Result<CallToolResult, CallError> {
        let notifier = &self.shared.notifier;
        let receipt = match action {
            Action::List => {
                let arguments: ListChannels = parameters::read(schema, arguments)?;
                let channels = self.channels(client, arguments.platform).await;
                return Ok(structured(&channels));
            }
            Action::Get => {
                let arguments: GetDelivery = parameters::read(schema, arguments)?;
                notifier.status(client, &arguments.delivery_id).await?
            }
            Action::Update => {
                let arguments: UpdateMessage = parameters::read(schema, arguments)?;
                notifier.update(client, &arguments.delivery_id, &arguments.text).await?
            }
            Action::Send(platform) => {
                let policy = notifier.rules();
                let listed = policy.allowed(client, platform).listed();
                parameters::restore_channel(arguments.as_mut(), listed);
                let submission = match platform {
                    PlatformKind::Slack => {
                        parameters::read::<SendToSlack>(schema, arguments)?.into_submission()?
                    }
                    PlatformKind::Discord => {
                        parameters::read::<SendToDiscord>(schema, arguments)?.into_submission()?
                    }
                    PlatformKind::Telegram => {
                        parameters::read::<SendToTelegram>(schema, arguments)?.into_submission()?
                    }
                };
                notifier.submit(client, submission).await?
            }
        };
        Ok(of_receipt(&receipt))
    }
}

/// Why a tool call came to nothing, as one sentence for the agent.
#[derive(Debug, thiserror::Error)]
enum CallError {
    #[error("{0}")]
    Argument(String),
    #[error(transparent)]
    Submit(#[from] SubmitError),
}

impl From<String> for CallError {
    fn from(sentence: String) -> Self {
        Self::Argument(sentence)
    }
}

fn failed(sentence: impl Into<String>) -> CallToolResult {
    CallToolResult::error(vec![ContentBlock::text(sentence)])
}

/// Structured content, and the same as JSON text for clients that read only that, with the status first.
fn structured(output: &impl Serialize) -> CallToolResult {
    match (serde_json::to_value(output), serde_json::to_string(output)) {
        (Ok(value), Ok(text)) => {
            let mut result = CallToolResult::structured(value);
            result.content = vec![ContentBlock::text(text)];
            result
        }
        (Err(error), _) | (_, Err(error)) => {
            failed(format!("the result cannot be written as JSON: {error}"))
        }
    }
}

/// `failed` is the one status that is an error: its text leads with what to do. The others must not be sent again.
fn of_receipt(receipt: &Receipt) -> CallToolResult {
    let mut result = structured(receipt);
    if receipt.status == Status::Failed {
        let reason = receipt.reason.map_or("no reason is known", |reason| reason.as_str());
        let sentence = receipt
            .hint
            .clone()
            .unwrap_or_else(|| format!("the message was not delivered: {reason}"));
        result.content.insert(0, ContentBlock::text(sentence));
        result.is_error = Some(true);
    }
    result
}

/// Who is calling. A request that came over HTTP carries what the door put there; one without HTTP came over stdio.
fn client(context: &RequestContext<RoleServer>) -> Result<ClientName, ErrorData> {
    match context.extensions.get::<::http::request::Parts>() {
        None => Ok(ClientName::new("stdio")),
        Some(parts) => match parts.extensions.get::<Principal>() {
            Some(Principal(client)) => Ok(client.clone()),
            // The door stands in front of every route; if it ever does not, nobody gets in.
            None => Err(ErrorData::internal_error("nobody authenticated this request", None)),
        },
    }
}

impl ServerHandler for Herald {
    fn get_info(&self) -> ServerConfig {
        self.shared.info.clone()
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        let platforms = self.shared.notifier.platforms();
        self.shared.tools.find(name, &platforms).map(|(_, tool)| tool.clone())
    }

    async fn list_tools(
        &self,
        _request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let client = client(&context)?;
        let policy = self.shared.notifier.rules();
        let tools = self.shared.tools.for_client(&self.offers(&policy, &client));
        Ok(ListToolsResult::with_all_items(tools))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let client = client(&context)?;
        let platforms = self.shared.notifier.platforms();
        let found = self.shared.tools.find(&request.name, &platforms);
        let mut call = self.shared.metrics.call(found.map_or(UNKNOWN, |(action, _)| action.name()));
        let Some((action, tool)) = found else {
            let name: String = request.name.chars().take(128).collect();
            let sentence = format!("Unknown tool: {name}");
            return if context.extensions.get::<::http::request::Parts>().is_some() {
                Err(ErrorData::invalid_params(sentence, None))
            } else {
                // The gateway that kmcp puts in front of stdio drops JSON-RPC errors, and the call would hang.
                Ok(failed(sentence).into())
            };
        };
        #[cfg(test)]
        if let Some(hook) = &self.shared.before_call {
            hook().await;
        }
        let result = self.call(&client, *action, &tool.input_schema, request.arguments).await;
        let result = result.unwrap_or_else(|error| failed(error.to_string()));
        if result.is_error != Some(true) {
            call.succeeded();
        }
        Ok(result.into())
    }

    async fn list_prompts(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        Ok(ListPromptsResult::with_all_items(prompts::list()))
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        let client = client(&context)?;
        let arguments = request.arguments.unwrap_or_default();
        let policy = self.shared.notifier.rules();
        match prompts::get(&request.name, &arguments, &self.offers(&policy, &client)) {
            Ok(prompt) => Ok(prompt.into()),
            Err(sentence) => Err(ErrorData::invalid_params(sentence, None)),
        }
    }

    async fn list_resources(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        Ok(ListResourcesResult::with_all_items(resources::list()))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let client = client(&context)?;
        let result = match request.uri.as_str() {
            resources::FORMATTING => resources::formatting(),
            resources::CHANNELS => resources::channels(&self.channels(&client, None).await)?,
            _ => return Err(resources::not_found(&request.uri)),
        };
        Ok(result.into())
    }

    async fn complete(
        &self,
        request: CompleteRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        let client = client(&context)?;
        let argument = request.argument;
        let prompt = request.r#ref.as_prompt_name().unwrap_or_default();
        let policy = self.shared.notifier.rules();
        let offers = self.offers(&policy, &client);
        let values = completion::complete(prompt, &argument.name, &argument.value, &offers);
        Ok(completion::result(values))
    }
}
