//! Whether each agent can be asked.

use crate::a2a::{Caller, Client, Error, Version};
use crate::bot::DEFAULT;
use crate::platform::finding::Finding;

/// Where kagent's agents are.
const SHAPE: &str = "http://kagent-controller.kagent:8083/api/a2a/NAMESPACE/AGENT/";
/// A task that no agent has.
const NO_TASK: &str = "herald-check";

/// Reads the agent's card, then asks about a task that does not exist: nothing runs, and the answer shows that the
/// address, the token and the dialect are right.
pub(super) async fn finding(name: &str, client: &Client, version: Version) -> Finding {
    let what = what(name);
    let card = match client.card().await {
        Ok(card) => card,
        Err(error) => return failed(name, &error),
    };
    let offered = card.versions.join(", ");
    let major = |version: &str| version.split('.').next().map(str::to_owned);
    let speaks = card.versions.iter().any(|it| major(it) == major(&card.dialect));
    if !speaks && !card.versions.is_empty() {
        let detail = format!("{} offers A2A {offered}, not {}", card.name, card.dialect);
        return Finding::fault(
            what,
            detail,
            format!("take KAGENT_A2A_VERSION={version} away, or set it to auto"),
        );
    }
    match client.task(NO_TASK, &Caller::default()).await {
        // An agent that knows no task, or cannot look one up, has read the question.
        Ok(_) | Err(Error::UnknownTask) => {}
        Err(Error::Refused { code, .. }) if code < 0 => {}
        Err(error) => return failed(name, &error),
    }
    Finding::fine(what, format!("{}, A2A {}", card.name, card.dialect))
}

pub(super) fn what(name: &str) -> String {
    format!("agent {name}")
}

/// What is wrong with an agent, and the setting that cures it. Pure.
fn failed(name: &str, error: &Error) -> Finding {
    let url =
        if name == DEFAULT { "KAGENT_A2A_URL".to_owned() } else { format!("agents.{name}.url") };
    let (detail, fix) = match error {
        Error::Unreachable(_) => (
            error.to_string(),
            format!("check the host and port in {url} ({SHAPE}), and that a NetworkPolicy lets Herald out to them"),
        ),
        Error::NoAnswer(_) | Error::MayHaveArrived(_) | Error::Unavailable(_) => (
            error.to_string(),
            "see whether the agent and kagent's controller are ready (kubectl -n kagent get pods), and run this again".to_owned(),
        ),
        Error::NoSuchAgent => (
            error.to_string(),
            format!("correct the namespace and the name in {url} ({SHAPE}); kubectl get agents -A lists them"),
        ),
        Error::NotAllowed(_) => (
            error.to_string(),
            "set KAGENT_A2A_TOKEN, or KAGENT_A2A_TOKEN_FILE, to a token that kagent's controller, or what guards it, accepts".to_owned(),
        ),
        Error::Setup(why) if why.contains("token file") => (
            error.to_string(),
            "correct KAGENT_A2A_TOKEN_FILE, and see that Herald's user may read the file".to_owned(),
        ),
        Error::Setup(_) => (
            error.to_string(),
            format!("check {url}, KAGENT_A2A_TOKEN and KAGENT_A2A_USER_ID for stray characters"),
        ),
        Error::Refused { code: code @ 300..400, .. } => (
            format!("the agent answers with a redirect (HTTP {code}), which is not followed"),
            format!("set {url} to where it leads: https instead of http, or the agent's whole path ({SHAPE})"),
        ),
        Error::VersionMismatch => (
            error.to_string(),
            "take KAGENT_A2A_VERSION away, or set it to auto".to_owned(),
        ),
        _ => (
            error.to_string(),
            format!("set {url} to the agent itself, not to kagent's UI or another service ({SHAPE})"),
        ),
    };
    Finding::fault(what(name), detail, fix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_trouble_names_its_setting() {
        let redirect = Error::Refused { code: 307, message: "no agent card".to_owned() };
        for (name, error, detail, fix) in [
            ("default", redirect.clone(), "307", "KAGENT_A2A_URL"),
            ("k8s", redirect, "not followed", "agents.k8s.url"),
            ("default", Error::NoSuchAgent, "404", "/api/a2a/NAMESPACE/AGENT/"),
            ("k8s", Error::NotAllowed(401), "401", "KAGENT_A2A_TOKEN"),
            ("default", Error::Unreachable("refused"), "refused", "NetworkPolicy"),
            ("default", Error::Unavailable(503), "503", "kubectl -n kagent get pods"),
            ("default", Error::Setup("its token file is empty"), "empty", "KAGENT_A2A_TOKEN_FILE"),
            ("default", Error::VersionMismatch, "version", "KAGENT_A2A_VERSION"),
            ("default", Error::Malformed("no agent card"), "no agent card", "kagent's UI"),
        ] {
            let found = failed(name, &error);
            assert!(!found.ok && found.detail.contains(detail), "{found:?}");
            assert!(found.fix.as_ref().unwrap().contains(fix), "{found:?}");
        }
    }
}
