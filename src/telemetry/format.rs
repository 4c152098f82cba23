//! Log lines that say which trace they belong to.

use std::fmt;

use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::trace;

/// Lines as `F` writes them, with `trace_id` at their end where they are part of a trace that is exported.
pub(super) struct Traced<F>(pub(super) F);

impl<S, N, F> FormatEvent<S, N> for Traced<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        // In colour it is for somebody who looks at a terminal.
        let trace_id = if writer.has_ansi_escapes() { None } else { trace::trace_id() };
        let Some(trace_id) = trace_id else {
            return self.0.format_event(context, writer, event);
        };
        let mut line = String::new();
        self.0.format_event(context, Writer::new(&mut line), event)?;
        writer.write_str(&with_trace_id(&line, &trace_id))
    }
}

fn with_trace_id(line: &str, trace_id: &str) -> String {
    let line = line.trim_end();
    match line.strip_suffix('}').filter(|line| line.starts_with('{')) {
        Some(object) => format!("{object},\"trace_id\":\"{trace_id}\"}}\n"),
        None => format!("{line} trace_id={trace_id}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_its_trace_in_its_own_way() {
        assert_eq!(with_trace_id("INFO delivered\n", "4b"), "INFO delivered trace_id=4b\n");
        assert_eq!(
            with_trace_id("{\"message\":\"delivered\"}\n", "4b"),
            "{\"message\":\"delivered\",\"trace_id\":\"4b\"}\n"
        );
    }
}
