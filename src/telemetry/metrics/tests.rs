use super::*;

#[test]
fn what_is_counted_of_a_platform_begins_at_zero() {
    let text = Metrics::new(&[PlatformKind::Slack]).encode();
    for line in [
        "herald_deliveries_failed_total{platform=\"slack\",reason=\"auth\"} 0",
        "herald_events_total{platform=\"slack\",outcome=\"lost\"} 0",
        "herald_rate_limited_total{platform=\"slack\",scope=\"credential\"} 0",
    ] {
        assert!(text.lines().any(|known| known == line), "{line} in\n{text}");
    }
    assert!(!text.contains("discord"), "{text}");
    assert!(text.ends_with("# EOF\n"), "{text}");
}

#[test]
fn a_call_that_nobody_called_a_success_is_an_error() {
    let metrics = Metrics::default();
    drop(metrics.call("list_channels"));
    let mut call = metrics.call("list_channels");
    call.succeeded();
    drop(call);
    let text = metrics.encode();
    for outcome in ["ok", "error"] {
        let line =
            format!("herald_mcp_calls_total{{tool=\"list_channels\",outcome=\"{outcome}\"}} 1");
        assert!(text.contains(&line), "{line} in\n{text}");
    }
    assert!(text.contains("herald_mcp_call_seconds_count{tool=\"list_channels\"} 2"), "{text}");
}
