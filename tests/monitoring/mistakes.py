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
        assert old in subject.metrics[0]
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
        replaced("HeraldRateLimited", "namespace, platform", "namespace"), "names the label platform"),
    "a reason that no alert knows": (
        replaced("HeraldChannelUnusable", "|quota", ""), "failed with quota"),
    "an alert without a runbook": (
        alert("HeraldStoreDown", annotations={"summary": "x", "description": "x"}), "its runbook is not one line"),
    "an alert without a severity": (alert("HeraldStoreDown", labels={}), "its severity is none of"),
    "an alert without a case": (new_alert, "HeraldSomethingNew: no case lets it fire"),
    "an alert without a case against it": (no_silent_case, "HeraldEventsLost: no case says when it must not fire"),
    "an alert that cannot be read": (
        replaced("HeraldEventsLost", "[15m]))", "[15m])"), "promtool check rules"),
    "an alert that never fires": (
        replaced("HeraldTokenRefused", "> 0", "> 1000"), "promtool test rules"),
    "an alert that fires for each process": (
        replaced("HeraldListenerFailed", "max by (namespace, platform)", "max by (namespace, platform, pod)"), "promtool test rules"),
    "an alert that fires without a reason": (
        replaced("HeraldUnauthorized", ">= 5", ">= 0"), "promtool test rules"),
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
        scraped("# HELP herald_store_up Whether the store answered for this scrape.\n", ""), "promtool check metrics"),
    "an answer that was cut": (scraped("# EOF\n", ""), "is not OpenMetrics"),
}
