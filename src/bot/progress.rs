//! What the placeholder shows while the agent works. Pure.

use std::time::Duration;

use super::pause::{code, shortened};

/// The end of the text so far that is shown.
const MOST_TEXT: usize = 1_200;
/// The most tools that are listed.
const MOST_TOOLS: usize = 8;

/// What is known of a turn in progress.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// The calls in order: ID, name, done.
    calls: Vec<(String, String, bool)>,
    text: String,
    quiet: Option<Duration>,
}

impl Progress {
    pub(super) fn tool(&mut self, id: String, name: String, done: bool) {
        self.quiet = None;
        match self.calls.iter_mut().find(|(known, ..)| *known == id) {
            Some((.., state)) => *state = done,
            None => self.calls.push((id, name, done)),
        }
    }

    pub(super) fn text(&mut self, text: String) {
        self.quiet = None;
        self.text = text;
    }

    pub(super) fn quiet(&mut self, since: Duration) {
        self.quiet = Some(since);
    }

    /// The names of the tools so far, each once.
    pub(super) fn tools(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for (_, name, _) in &self.calls {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        names
    }

    /// Markdown.
    pub(super) fn shown(&self) -> String {
        let mut shown = String::new();
        let text = self.text.trim();
        if !text.is_empty() {
            let skipped = text.chars().count().saturating_sub(MOST_TEXT);
            if skipped > 0 {
                shown.push('…');
            }
            shown.extend(text.chars().skip(skipped));
            shown.push_str("\n\n");
        }
        let hidden = self.calls.len().saturating_sub(MOST_TOOLS);
        if hidden > 0 {
            shown.push_str(&format!("- {hidden} tools before\n"));
        }
        for (_, name, done) in self.calls.iter().skip(hidden) {
            let word = if *done { "ran" } else { "running" };
            shown.push_str(&format!("- {word} {}\n", code(name)));
        }
        shown.push_str("\n*Working on it…");
        if let Some(quiet) = self.quiet {
            shown.push_str(&format!(" no news for {}, which need not mean anything", span(quiet)));
        }
        shown.push('*');
        shown.trim_start().to_owned()
    }
}

/// What the placeholder says once the answer stands below it.
pub(super) fn summary(took: Duration, tools: &[String]) -> String {
    let mut text = format!("*Worked for {}", span(took));
    if !tools.is_empty() {
        let names: Vec<String> = tools.iter().take(MOST_TOOLS).map(|tool| code(tool)).collect();
        text.push_str(&format!(": {}", names.join(", ")));
    }
    shortened(&text, 900) + "*"
}

/// `45 s`, `3 min`, `2 h`.
pub(super) fn span(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_tools_and_the_end_of_the_text() {
        let mut progress = Progress::default();
        assert_eq!(progress.shown(), "*Working on it…*");
        progress.tool("1".to_owned(), "k8s_get_pods".to_owned(), false);
        assert_eq!(progress.shown(), "- running `k8s_get_pods`\n\n*Working on it…*");
        progress.tool("1".to_owned(), "k8s_get_pods".to_owned(), true);
        progress.tool("2".to_owned(), "k8s_get_pods".to_owned(), false);
        progress.text("x".repeat(5_000));
        let shown = progress.shown();
        assert!(shown.contains("- ran `k8s_get_pods`\n- running `k8s_get_pods`"), "{shown}");
        assert!(shown.chars().count() < 1_400);
        assert_eq!(progress.tools(), ["k8s_get_pods"]);
        progress.quiet(Duration::from_secs(180));
        assert!(progress.shown().contains("no news for 3 min"));
    }
}
