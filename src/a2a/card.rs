//! The agent's card: who it is and which dialects it speaks.

use serde_json::Value;
use url::Url;

use super::dialect::{Dialect, HITL};
use super::part;

/// What an agent says about itself, as far as Herald cares. A stranger's text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentCard {
    /// Its name; kagent writes `_` for `-`.
    pub name: String,
    /// What it does.
    pub description: String,
    /// The versions of A2A it offers over JSON-RPC.
    pub versions: Vec<String>,
    /// The dialect Herald speaks with it: `0.3` or `1.0`.
    pub dialect: String,
    /// Whether it streams. Where it says no, Herald polls.
    pub streaming: bool,
    /// Whether it declares `https://kagent.dev/extensions/hitl/v1`.
    pub approvals: bool,
}

impl AgentCard {
    /// Reads a card of either version; `None` when it is no card.
    pub(super) fn read(card: &Value) -> Option<Self> {
        card.as_object()?;
        let word = |holder: &Value, key: &str| {
            holder.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let mut versions = Vec::new();
        let mut offer = |holder: &Value, binding: &str| {
            let version = word(holder, "protocolVersion");
            let rpc = ["", "jsonrpc"].contains(&word(holder, binding).to_lowercase().as_str());
            if rpc && !version.is_empty() && !versions.contains(&version) {
                versions.push(version);
            }
        };
        for interface in part::list_of(card, "supportedInterfaces") {
            offer(interface, "protocolBinding");
        }
        offer(card, "preferredTransport");
        let capabilities = card.get("capabilities").unwrap_or(&Value::Null);
        let approvals = part::list_of(capabilities, "extensions")
            .iter()
            .any(|extension| extension.get("uri").and_then(Value::as_str) == Some(HITL));
        let mut read = Self {
            name: word(card, "name"),
            description: word(card, "description"),
            versions,
            dialect: String::new(),
            // 1.0 leaves out what is false, and some what is true: only a plain no counts.
            streaming: capabilities.get("streaming").and_then(Value::as_bool).unwrap_or(true),
            approvals,
        };
        let known = !read.name.is_empty() || !read.versions.is_empty();
        read.dialect = read.choice().name().to_owned();
        known.then_some(read)
    }

    /// 1.0 if it is offered, and either 0.3 is not or approvals come in 1.0's shape; else 0.3, which is what kagent's own
    /// UI speaks with a controller that takes both.
    pub(super) fn choice(&self) -> Dialect {
        let offers = |major: &str| self.versions.iter().any(|version| version.starts_with(major));
        if offers("1.") && (self.approvals || !offers("0.")) {
            Dialect::V1_0
        } else {
            Dialect::V0_3
        }
    }
}

/// Where the card of the agent at `agent` is. The agent's URL ends with a slash.
pub(super) fn location(agent: &Url) -> Url {
    let mut url = agent.clone();
    let path = format!("{}.well-known/agent-card.json", agent.path());
    url.set_path(&path);
    url
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn chosen(card: Value) -> Dialect {
        AgentCard::read(&card).unwrap().choice()
    }

    #[test]
    fn the_dialect_follows_the_card() {
        let v1 = json!({"protocolVersion": "1.0", "protocolBinding": "JSONRPC"});
        let v0 = json!({"protocolVersion": "0.3", "protocolBinding": "JSONRPC"});
        let grpc = json!({"protocolVersion": "1.0", "protocolBinding": "GRPC"});
        let hitl = json!({"extensions": [{"uri": HITL}]});
        let table = [
            (json!({"protocolVersion": "0.3.0", "url": "http://x/"}), Dialect::V0_3),
            (json!({"name": "old"}), Dialect::V0_3),
            (json!({"name": "n", "supportedInterfaces": [v1]}), Dialect::V1_0),
            (json!({"protocolVersion": "0.3", "supportedInterfaces": [v0, v1]}), Dialect::V0_3),
            (json!({"supportedInterfaces": [v0, v1], "capabilities": hitl}), Dialect::V1_0),
            (
                json!({"name": "n", "supportedInterfaces": [v0], "capabilities": hitl}),
                Dialect::V0_3,
            ),
            (json!({"name": "n", "supportedInterfaces": [grpc]}), Dialect::V0_3),
        ];
        for (card, dialect) in table {
            assert_eq!(chosen(card.clone()), dialect, "{card}");
        }
    }

    #[test]
    fn what_is_no_card_is_none() {
        for card in [json!([]), json!("hi"), json!({"jsonrpc": "2.0", "error": {}}), json!(null)] {
            assert_eq!(AgentCard::read(&card), None, "{card}");
        }
    }

    #[test]
    fn the_card_lies_below_the_agent() {
        let at = |url: &str| location(&url.parse().unwrap()).to_string();
        assert_eq!(at("http://a/x/y/"), "http://a/x/y/.well-known/agent-card.json");
        assert_eq!(at("http://a/?user_id=u"), "http://a/.well-known/agent-card.json?user_id=u");
    }
}
