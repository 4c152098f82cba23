//! Which agent a message is for.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::config;
use crate::a2a::{self, Client};
use crate::clock::Clock;
use crate::model::{ChannelId, Event, Occurrence};
use crate::platform::http::HttpClient;

/// The name of the agent that `agent.url` (`KAGENT_A2A_URL`) is.
pub const DEFAULT: &str = "default";

/// One agent, and what leads to it.
struct Agent {
    client: Client,
    channels: Vec<ChannelId>,
    /// Without the slash, in lower case.
    commands: Vec<String>,
}

/// The agents there are.
pub struct Agents {
    agents: BTreeMap<String, Agent>,
    default: String,
}

/// The agents' settings do not hold together. One sentence that names the setting.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidAgents(String);

impl Agents {
    /// The agents as configured; `None` without any. Calls nobody.
    ///
    /// # Errors
    /// When a channel or a command is malformed, or two agents claim the same.
    pub fn new(
        main: &a2a::Config,
        others: &config::Agents,
        http: &HttpClient,
        clock: &Arc<dyn Clock>,
    ) -> Result<Option<Self>, InvalidAgents> {
        let mut agents = BTreeMap::new();
        let client =
            |url: &url::Url| Client::new(main, url.clone(), http.clone(), Arc::clone(clock));
        if let Some(url) = &main.url {
            let agent = Agent { client: client(url), channels: Vec::new(), commands: Vec::new() };
            agents.insert(DEFAULT.to_owned(), agent);
        }
        let ways = ways(main, others)?;
        for ((name, settings), Way { channels, commands }) in others.iter().zip(ways) {
            let agent = Agent { client: client(&settings.url), channels, commands };
            agents.insert(name.clone(), agent);
        }
        let default = if agents.contains_key(DEFAULT) {
            Some(DEFAULT.to_owned())
        } else {
            agents.keys().next().cloned()
        };
        Ok(default.map(|default| Self { agents, default }))
    }

    /// Whether the settings hold together, found out without a client.
    ///
    /// # Errors
    /// As [`Agents::new`].
    pub fn check(main: &a2a::Config, others: &config::Agents) -> Result<(), InvalidAgents> {
        ways(main, others).map(drop)
    }

    /// The client of an agent; an agent that is not configured any more is the default one.
    pub(super) fn client(&self, name: &str) -> Option<&Client> {
        self.agents.get(name).or_else(|| self.agents.get(&self.default)).map(|a| &a.client)
    }

    /// Every agent's name and client, the default one first.
    pub fn all(&self) -> impl Iterator<Item = (&str, &Client)> {
        let default = self.agents.get_key_value(&self.default);
        let others = self.agents.iter().filter(|(name, _)| **name != self.default);
        default.into_iter().chain(others).map(|(name, agent)| (name.as_str(), &agent.client))
    }

    /// Whether a command leads to an agent.
    pub(super) fn has_command(&self, command: &str) -> bool {
        self.agents.values().any(|agent| agent.commands.iter().any(|known| known == command))
    }

    /// The agent that `k8s: show pods` names, and the rest of the text.
    pub(super) fn by_prefix<'t>(&self, text: &'t str) -> Option<(&str, &'t str)> {
        let (name, rest) = text.split_once(':')?;
        let name = name.trim();
        // A rest that goes on like an address is none.
        let (known, _) = self.agents.get_key_value(&name.to_lowercase())?;
        (!rest.starts_with("//")).then(|| (known.as_str(), rest.trim()))
    }

    /// The agent for a conversation that this event begins.
    pub(super) fn for_event(&self, event: &Event) -> &str {
        let by = |test: &dyn Fn(&Agent) -> bool| {
            self.agents.iter().find(|(_, agent)| test(agent)).map(|(name, _)| name.as_str())
        };
        let by_command = match &event.what {
            Occurrence::Command { name, .. } => {
                by(&|agent| agent.commands.iter().any(|known| known == name))
            }
            _ => None,
        };
        by_command
            .or_else(|| by(&|agent| agent.channels.contains(&event.visit.channel)))
            .unwrap_or(&self.default)
    }
}

/// What leads to one agent.
struct Way {
    channels: Vec<ChannelId>,
    commands: Vec<String>,
}

/// What leads to each of the agents, in their order.
fn ways(main: &a2a::Config, others: &config::Agents) -> Result<Vec<Way>, InvalidAgents> {
    let mut claimed: BTreeMap<String, &str> = BTreeMap::new();
    let mut ways = Vec::new();
    for (name, settings) in others {
        let wrong = |what: String| InvalidAgents(format!("agents.{name}: {what}"));
        if !is_name(name) || (name == DEFAULT && main.url.is_some()) {
            return Err(wrong(
                "an agent's name is lower-case letters, digits, `-` and `_`, and `default` is the one of KAGENT_A2A_URL"
                    .to_owned(),
            ));
        }
        let channels = settings.channels.iter().map(|channel| channel.parse::<ChannelId>());
        let channels = channels.collect::<Result<Vec<_>, _>>().map_err(|e| wrong(e.to_string()))?;
        let mut commands = Vec::new();
        for command in &settings.commands {
            let word = command.trim().trim_start_matches('/').to_lowercase();
            if !is_name(&word) {
                return Err(wrong(format!("`{command}` is no command: write /k8s")));
            }
            commands.push(word);
        }
        let claims = channels.iter().map(ToString::to_string);
        for claim in claims.chain(commands.iter().map(|command| format!("/{command}"))) {
            if let Some(other) = claimed.insert(claim.clone(), name) {
                return Err(wrong(format!("{claim} leads to the agent {other} already")));
            }
        }
        ways.push(Way { channels, commands });
    }
    Ok(ways)
}

fn is_name(name: &str) -> bool {
    (1..=32).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{ManualClock, Timestamp};
    use crate::model::{Person, Visit};
    use crate::platform::http::Settings;

    fn agents(yaml: &str) -> Result<Option<Agents>, InvalidAgents> {
        let others: config::Agents = serde_saphyr::from_str(yaml).unwrap();
        let main =
            a2a::Config { url: "http://127.0.0.1:1/".parse().ok(), ..a2a::Config::default() };
        let http = HttpClient::new(&Settings::default()).unwrap();
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(Timestamp(0)));
        Agents::new(&main, &others, &http, &clock)
    }

    fn event(channel: &str, what: Occurrence) -> Event {
        let person = Person { id: "U1".to_owned(), name: None, outsider: false };
        let channel = channel.parse().unwrap();
        let visit = Visit { channel, thread: None, direct: false, person };
        Event {
            id: "1".to_owned(),
            visit,
            what,
            respond: None,
            at: Timestamp(0),
            traceparent: None,
            happened_at: None,
        }
    }

    fn command(name: &str) -> Occurrence {
        Occurrence::Command { name: name.to_owned(), text: String::new(), message_id: None }
    }

    #[test]
    fn a_command_a_channel_or_a_prefix_leads_to_an_agent() {
        let agents = agents(
            "istio: {url: 'http://127.0.0.1:2/', channels: ['slack:C0ISTIO'], commands: [/Istio]}",
        )
        .unwrap()
        .unwrap();
        assert_eq!(agents.for_event(&event("slack:C0GENERAL", command("mykagent"))), "default");
        assert_eq!(agents.for_event(&event("slack:C0GENERAL", command("istio"))), "istio");
        assert_eq!(agents.for_event(&event("slack:C0ISTIO", command("mykagent"))), "istio");
        assert_eq!(agents.by_prefix("istio: why?"), Some(("istio", "why?")));
        assert_eq!(agents.by_prefix("note: why?"), None);
        assert!(agents.has_command("istio") && !agents.has_command("mykagent"));
    }

    #[test]
    fn what_does_not_hold_together_is_named() {
        let url = "url: 'http://127.0.0.1:2/'";
        for (yaml, word) in [
            (format!("a: {{{url}, channels: [general]}}"), "general"),
            (format!("a: {{{url}, commands: ['/a b']}}"), "/a b"),
            (format!("a: {{{url}, commands: [/x]}}\nb: {{{url}, commands: [/x]}}"), "/x"),
            (format!("default: {{{url}}}"), "KAGENT_A2A_URL"),
        ] {
            let error = agents(&yaml).err().unwrap().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
