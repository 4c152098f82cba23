//! Which addresses are Slack's own: nothing that came from outside is called, or given a token, elsewhere.

use url::{Host, Url};

/// The hosts of Slack, and of the API base that is configured.
#[derive(Clone, Debug)]
pub(super) struct Origins {
    base: Url,
}

impl Origins {
    pub(super) const fn new(base: Url) -> Self {
        Self { base }
    }

    /// A response URL that may be posted to.
    pub(super) fn answers(&self, url: &str) -> Option<Url> {
        let ours = |host: &str| matches!(host, "hooks.slack.com" | "hooks.slack-gov.com");
        self.accept(url, ours)
    }

    /// A file's address that the bot token may be shown to, or that takes a file's content.
    pub(super) fn files(&self, url: &str) -> Option<Url> {
        let ours = |host: &str| {
            ["slack.com", "slack-gov.com"].iter().any(|domain| {
                host.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            })
        };
        self.accept(url, ours)
    }

    /// The address of a WebSocket: encrypted, unless the API base is not.
    pub(super) fn socket(&self, url: &str) -> Option<Url> {
        let url = Url::parse(url).ok()?;
        let plain = self.base.scheme() == "http" && url.scheme() == "ws";
        (url.scheme() == "wss" || plain).then_some(url)
    }

    fn accept(&self, url: &str, ours: impl Fn(&str) -> bool) -> Option<Url> {
        let url = Url::parse(url).ok()?;
        if !url.username().is_empty() || url.password().is_some() {
            return None;
        }
        let vendor = url.scheme() == "https"
            && url.port().is_none()
            && matches!(url.host(), Some(Host::Domain(host)) if ours(host));
        let configured =
            matches!(url.scheme(), "http" | "https") && url.origin() == self.base.origin();
        (vendor || configured).then_some(url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origins(base: &str) -> Origins {
        Origins::new(base.parse().unwrap())
    }

    #[test]
    fn only_slacks_own_addresses_are_called() {
        let slack = origins("https://slack.com/api");
        for (url, answers, files) in [
            ("https://hooks.slack.com/commands/T0/1/x", true, true),
            ("https://hooks.slack-gov.com/actions/x", true, true),
            ("https://files.slack.com/files-pri/T0-F0/a.txt", false, true),
            ("https://acme.enterprise.slack.com/files/a", false, true),
            ("https://slack.com/x", true, true),
            ("http://hooks.slack.com/commands/x", false, false),
            ("https://hooks.slack.com:8443/x", false, false),
            ("https://hooks.slack.com.evil.example/x", false, false),
            ("https://evilslack.com/x", false, false),
            ("https://user@hooks.slack.com/x", false, false),
            ("https://hooks.slack.com@evil.example/x", false, false),
            ("https://127.0.0.1/x", false, false),
            ("file:///etc/passwd", false, false),
            ("", false, false),
        ] {
            assert_eq!(slack.answers(url).is_some(), answers, "{url}");
            assert_eq!(slack.files(url).is_some(), files, "{url}");
        }
    }

    #[test]
    fn the_configured_base_is_trusted_with_its_port_and_scheme() {
        let local = origins("http://127.0.0.1:4020/api");
        for (url, ours) in [
            ("http://127.0.0.1:4020/response/x", true),
            ("http://127.0.0.1:4021/response/x", false),
            ("https://127.0.0.1:4020/response/x", false),
            ("http://localhost:4020/response/x", false),
        ] {
            assert_eq!(local.answers(url).is_some(), ours, "{url}");
            assert_eq!(local.files(url).is_some(), ours, "{url}");
        }
        assert!(local.socket("ws://127.0.0.1:4020/socket").is_some());
        assert!(local.socket("https://127.0.0.1:4020/socket").is_none());
        let slack = origins("https://slack.com/api");
        assert!(slack.socket("wss://wss-primary.slack.com/link/?ticket=x").is_some());
        assert!(slack.socket("ws://wss-primary.slack.com/link/?ticket=x").is_none());
    }
}
