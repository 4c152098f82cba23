//! What Discord's REST API is asked for.

use http::Method;

/// What is asked for, by the names of Discord's reference.
pub(super) enum Action<'a> {
    Me,
    Application,
    Guilds,
    Guild(&'a str),
    /// The server's ID and the person's.
    Member(&'a str, &'a str),
    GuildChannels(&'a str),
    GetChannel(&'a str),
    CreateMessage(&'a str),
    GetMessage(&'a str, &'a str),
    EditMessage(&'a str, &'a str),
    DeleteMessage(&'a str, &'a str),
    StartThread(&'a str, &'a str),
    Typing(&'a str),
    GatewayBot,
    PutCommands(&'a str),
    /// The interaction's ID and token.
    Callback(&'a str, &'a str),
    /// The application's ID and the interaction's token.
    FollowUp(&'a str, &'a str),
    GetOriginal(&'a str, &'a str),
    EditOriginal(&'a str, &'a str),
    DeleteOriginal(&'a str, &'a str),
}

impl<'a> Action<'a> {
    pub(super) fn of(method: &Method, path: &'a str) -> Option<Self> {
        let segments: Vec<&str> = path.split('/').collect();
        Some(match (method.as_str(), segments.as_slice()) {
            ("GET", ["users", "@me"]) => Self::Me,
            ("GET", ["applications", "@me"]) => Self::Application,
            ("GET", ["users", "@me", "guilds"]) => Self::Guilds,
            ("GET", ["guilds", guild]) => Self::Guild(guild),
            ("GET", ["guilds", guild, "members", user]) => Self::Member(guild, user),
            ("GET", ["guilds", guild, "channels"]) => Self::GuildChannels(guild),
            ("GET", ["channels", channel]) => Self::GetChannel(channel),
            ("POST", ["channels", channel, "messages"]) => Self::CreateMessage(channel),
            ("POST", ["channels", channel, "typing"]) => Self::Typing(channel),
            ("GET", ["channels", channel, "messages", id]) => Self::GetMessage(channel, id),
            ("PATCH", ["channels", channel, "messages", id]) => Self::EditMessage(channel, id),
            ("DELETE", ["channels", channel, "messages", id]) => Self::DeleteMessage(channel, id),
            ("POST", ["channels", channel, "messages", id, "threads"]) => {
                Self::StartThread(channel, id)
            }
            ("GET", ["gateway", "bot"]) => Self::GatewayBot,
            ("PUT", ["applications", app, "commands"]) => Self::PutCommands(app),
            ("POST", ["interactions", id, token, "callback"]) => Self::Callback(id, token),
            ("POST", ["webhooks", app, token]) => Self::FollowUp(app, token),
            ("GET", ["webhooks", app, token, "messages", "@original"]) => {
                Self::GetOriginal(app, token)
            }
            ("PATCH", ["webhooks", app, token, "messages", "@original"]) => {
                Self::EditOriginal(app, token)
            }
            ("DELETE", ["webhooks", app, token, "messages", "@original"]) => {
                Self::DeleteOriginal(app, token)
            }
            _ => return None,
        })
    }

    /// The name for faults and for the log of requests.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Me => "get_current_user",
            Self::Application => "get_current_application",
            Self::Guilds => "get_current_user_guilds",
            Self::Guild(_) => "get_guild",
            Self::Member(..) => "get_guild_member",
            Self::GuildChannels(_) => "get_guild_channels",
            Self::GetChannel(_) => "get_channel",
            Self::CreateMessage(_) => "create_message",
            Self::GetMessage(..) => "get_message",
            Self::EditMessage(..) => "edit_message",
            Self::DeleteMessage(..) => "delete_message",
            Self::StartThread(..) => "start_thread",
            Self::Typing(_) => "trigger_typing",
            Self::GatewayBot => "get_gateway_bot",
            Self::PutCommands(_) => "put_commands",
            Self::Callback(..) => "create_interaction_response",
            Self::FollowUp(..) => "create_followup_message",
            Self::GetOriginal(..) => "get_original_response",
            Self::EditOriginal(..) => "edit_original_response",
            Self::DeleteOriginal(..) => "delete_original_response",
        }
    }

    pub(super) const fn channel(&self) -> Option<&'a str> {
        match self {
            Self::GetChannel(channel)
            | Self::CreateMessage(channel)
            | Self::GetMessage(channel, _)
            | Self::EditMessage(channel, _)
            | Self::DeleteMessage(channel, _)
            | Self::StartThread(channel, _)
            | Self::Typing(channel) => Some(channel),
            _ => None,
        }
    }

    /// The interaction's token, which stands in for the bot's.
    pub(super) const fn interaction_token(&self) -> Option<&'a str> {
        match self {
            Self::Callback(_, token)
            | Self::FollowUp(_, token)
            | Self::GetOriginal(_, token)
            | Self::EditOriginal(_, token)
            | Self::DeleteOriginal(_, token) => Some(token),
            _ => None,
        }
    }

    /// Whether a JSON object has to come with it.
    pub(super) const fn has_body(&self) -> bool {
        matches!(
            self,
            Self::CreateMessage(_)
                | Self::EditMessage(..)
                | Self::StartThread(..)
                | Self::Callback(..)
                | Self::FollowUp(..)
                | Self::EditOriginal(..)
        )
    }
}
