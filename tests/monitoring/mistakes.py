"""Mistakes to plant, one of each kind, each with words of the finding that has to come of it."""

import alerts


def alert(name, **changes):
    def plant(subject):
        chosen = next(rule for rule in alerts.alerts(subject.rules) if rule["alert"] == name)
        chosen.update({key.rstrip("_"): value for key, value in changes.items()})

    return plant


def replaced(name, old, new):
    """A change within an alert's expression."""

    def plant(subject):
        chosen = next(rule for rule in alerts.alerts(subject.rules) if rule["alert"] == name)
        assert old in chosen["expr"]
        chosen["expr"] = chosen["expr"].replace(old, new)

    return plant


def recording(name, old, new):
    """A change within a recording's expression."""

    def plant(subject):
        rules = [rule for group in subject.rules["groups"] for rule in group["rules"]]
        chosen = next(rule for rule in rules if rule.get("record") == name)
        assert old in chosen["expr"]
        chosen["expr"] = chosen["expr"].replace(old, new)

    return plant


def readme(old, new):
    def plant(subject):
        assert old in subject.readme
        subject.readme = subject.readme.replace(old, new)

    return plant


def new_alert(subject):
    known = alerts.alerts(subject.rules)[0]
    subject.rules["groups"][0]["rules"].append(known | {"alert": "HeraldSomethingNew"})


def no_silent_case(subject):
    for case in subject.cases["tests"]:
        asked = case["promql_expr_test"]
        case["promql_expr_test"] = [one for one in asked if 'alertname="HeraldEventsLost"' not in one["expr"]]


def panel(**changes):
    def plant(subject):
        subject.dashboard["panels"][1].update(changes)

    return plant


def no_unit(subject):
    del subject.dashboard["panels"][1]["fieldConfig"]["defaults"]["unit"]


def query(old, new):
    """A change within the first query that has this in its expression."""

    def plant(subject):
        targets = [target for one in subject.dashboard["panels"] for target in one.get("targets", [])]
        target = next(target for target in targets if old in target["expr"])
        target["expr"] = target["expr"].replace(old, new)

    return plant


def panel_gone(subject):
    kept = [one for one in subject.dashboard["panels"] if one["title"] != "Approvals"]
    subject.dashboard["panels"] = kept


def scraped(old, new):
    def plant(subject):
        assert any(old in text for text in subject.metrics)
        subject.metrics = [text.replace(old, new) for text in subject.metrics]

    return plant


MISTAKES = {
    "an alert on a metric that there is not": (
        alert("HeraldStoreDown", expr="herald_stoer_up == 0"), "there is no metric herald_stoer_up"),
    "an alert on a label that there is not": (
        replaced("HeraldEventsLost", "outcome=", "result="), "has no label result"),
    "an alert on a value that never comes": (
        replaced("HeraldTurnsFailing", "failed|lost", "failed|losst"), "never has outcome=losst"),
    "an alert by a label that there is not": (
        replaced("HeraldOutcomeUnknown", "platform, reason", "platfrom, reason"), "has the label platfrom"),
    "a text with a label that is not there": (
        replaced("HeraldOutcomeUnknown", "platform, reason", "reason"), "names the label platform"),
    "a reason that no alert knows": (
        replaced("HeraldChannelUnusable", "|quota", ""), "failed with quota"),
    "an alert without a runbook": (
        alert("HeraldStoreDown", annotations={"summary": "x", "description": "x"}), "its runbook is not one line"),
    "an alert without a severity": (alert("HeraldStoreDown", labels={}), "its severity is none of"),
    "an alert without a case": (new_alert, "HeraldSomethingNew: no case lets it fire"),
    "an alert without a case against it": (no_silent_case, "HeraldEventsLost: no case says when it must not fire"),
    "an alert that cannot be read": (
        replaced("HeraldEventsLost", "})", "}"), "promtool check rules"),
    "an alert that never fires": (
        replaced("HeraldTokenRefused", "== 1", "== 2"), "promtool test rules"),
    "an alert that fires for each process": (
        replaced("HeraldListenerFailed", "max by (namespace, platform)", "max by (namespace, platform, pod)"), "promtool test rules"),
    "an alert that fires without a reason": (
        replaced("HeraldUnauthorized", ">= 5", ">= 0"), "promtool test rules"),
    "an alert that forgets what was counted before the first scrape": (
        replaced("HeraldEventsLost", "herald:events:increase15m", "herald_events_total"), "reads a counter itself"),
    "an alert on a recording that there is not": (
        replaced("HeraldTurnsFailing", "increase30m", "increase20m"), "there is no recording herald:turns:increase20m"),
    "a recording that takes a missed scrape for a beginning": (
        recording("herald:events:increase15m", "last_over_time(herald_events_total[1h] offset 15m)", "herald_events_total offset 15m"),
        "herald:events:increase15m: is not counted as the others"),
    "an alert on a metric that only ever was 0": (
        scraped("herald_http_unauthorized_total 1", "herald_http_unauthorized_total 0"), "herald_http_unauthorized_total was never above 0"),
    "an alert on a value that only ever was 0": (
        scraped('agent="default",outcome="lost"} 1', 'agent="default",outcome="lost"} 0'), "was never above 0 with outcome=lost"),
    "an exception for what happened after all": (
        scraped('platform="slack",reason="quota"} 0', 'platform="slack",reason="quota"} 1'), "is said not to be: reason=quota"),
    "an alert that README.md does not explain": (
        readme("| HeraldEventsLost |", "| HeraldEventsGone |"), "does not say what to do about HeraldEventsLost"),
    "an alert that README.md explains, and that is gone": (
        readme("| HeraldEventsLost |", "| HeraldEventsGone |"), "explains HeraldEventsGone, which is no alert"),
    "an alert that README.md takes too lightly": (
        readme("HeraldStoreDown (critical)", "HeraldStoreDown"), "how urgent HeraldStoreDown is"),
    "a panel on a metric that there is not": (
        query("herald_queue_depth", "herald_queue_deep"), "there is no metric herald_queue_deep"),
    "a panel that cannot be read": (query("$__rate_interval]))", "$__rate_interval])"), "promtool check rules"),
    "a panel with an unknown variable": (query("$namespace", "$cluster"), "an unknown variable"),
    "a legend that cannot be written": (query("by (platform, scope)", "by (scope)"), "its legend names platform"),
    "a panel without a title": (panel(title=""), "has no title"),
    "a panel without a unit": (no_unit, "has no unit"),
    "a panel with a datasource of its own": (panel(datasource={"type": "prometheus", "uid": "p1"}), "does not ask the variable"),
    "a panel from a plugin": (panel(type="grafana-piechart-panel"), "no panel of Grafana's core"),
    "two panels with one id": (panel(id=3), "the id 3 is taken"),
    "two panels in one place": (panel(gridPos={"h": 4, "w": 4, "x": 0, "y": 1}), "lies on"),
    "a metric that nobody sees": (panel_gone, "herald_approvals_total is on no panel"),
    "a metric without its explanation": (
        scraped("# HELP herald_store_up Whether the store answers, and takes something.\n", ""), "promtool check metrics"),
    "an answer that was cut": (scraped("# EOF\n", ""), "is not OpenMetrics"),
}
