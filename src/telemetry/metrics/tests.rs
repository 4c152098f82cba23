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

/// How a breaker stands by what was written, each state with its value.
fn breaker(metrics: &Metrics) -> Vec<String> {
    let text = metrics.encode();
    let lines = text.lines().filter_map(|line| line.strip_prefix("herald_breaker_state"));
    let mut lines: Vec<_> = lines.map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn a_breaker_is_in_one_state_at_a_time_and_stays_there_while_the_store_is_away() {
    let metrics = Metrics::new(&[PlatformKind::Slack]);
    assert!(breaker(&metrics).is_empty(), "nobody has asked the store yet");
    let pause = |refused: Option<&str>| Pause {
        reason: Reason::Auth,
        hint: "new token".to_owned(),
        since: crate::clock::Timestamp(0),
        refused: refused.map(str::to_owned),
    };
    let told = |pause| {
        let (queued, sending, oldest) = (0, 0, Duration::ZERO);
        let waiting = Waiting { platform: PlatformKind::Slack, queued, sending, oldest, pause };
        metrics.backlog(Some(&[waiting]));
        breaker(&metrics)
    };
    let is = |current: &str| {
        let line = |state| {
            let value = i32::from(state == current);
            format!("{{platform=\"slack\",state=\"{state}\"}} {value}")
        };
        ["closed", "open", "refused"].map(line).to_vec()
    };
    assert_eq!(told(None), is("closed"));
    assert_eq!(told(Some(pause(None))), is("open"));
    assert_eq!(told(Some(pause(Some("f")))), is("refused"));
    metrics.backlog(None);
    assert_eq!(breaker(&metrics), is("refused"));
    assert!(metrics.encode().contains("herald_store_up 0"));
    assert_eq!(told(None), is("closed"));
}

#[test]
fn each_way_to_settle_a_doubt_is_counted_for_itself() {
    let metrics = Metrics::new(&[PlatformKind::Slack, PlatformKind::Discord]);
    for (n, outcome) in Doubt::ALL.into_iter().enumerate() {
        for _ in 0..n {
            metrics.doubt_settled(PlatformKind::Slack, outcome);
        }
    }
    let text = metrics.encode();
    for (n, outcome) in Doubt::ALL.into_iter().enumerate() {
        for (platform, count) in [("slack", n), ("discord", 0)] {
            let outcome = outcome.as_str();
            let line = format!(
                "herald_ambiguous_total{{platform=\"{platform}\",outcome=\"{outcome}\"}} {count}\n"
            );
            assert!(text.contains(&line), "{line} in\n{text}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_access_to_the_store_is_timed_whether_it_succeeds_or_not() {
    let metrics = Metrics::default();
    let slow = async {
        tokio::time::sleep(Duration::from_millis(600)).await;
        Err::<(), _>("the disk is full")
    };
    assert_eq!(metrics.access(StoreAccess::Record, slow).await, Err("the disk is full"));
    assert_eq!(metrics.access(StoreAccess::Take, async { 7 }).await, 7);
    let text = metrics.encode();
    for line in [
        "herald_store_seconds_bucket{le=\"0.5\",access=\"record\"} 0",
        "herald_store_seconds_bucket{le=\"2.0\",access=\"record\"} 1",
        "herald_store_seconds_sum{access=\"record\"} 0.6",
        "herald_store_seconds_bucket{le=\"0.001\",access=\"take\"} 1",
        "herald_store_seconds_count{access=\"enqueue\"} 0",
    ] {
        assert!(text.lines().any(|known| known == line), "{line} in\n{text}");
    }
}

#[test]
fn lost_leases_are_told_apart() {
    let metrics = Metrics::default();
    metrics.lease_lost(Lease::Lane);
    let text = metrics.encode();
    for (kind, count) in [("lane", 1), ("conversation", 0), ("listener", 0)] {
        let line = format!("herald_leases_lost_total{{kind=\"{kind}\"}} {count}");
        assert!(text.lines().any(|known| known == line), "{line} in\n{text}");
    }
}
