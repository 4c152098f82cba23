"""Whether the alerts ask for what Herald says, tell people enough, and have a case for and against each of them."""

import re

import expressions

SEVERITIES = {"critical", "warning"}
# Reasons after which no person has to act: policy said no, an operator did it, an agent named what is gone.
NOBODYS = {"denied", "discarded", "message_not_found"}


def alerts(rules):
    return [rule for group in rules["groups"] for rule in group["rules"]]


def findings(rules, cases, recorded):
    for alert in alerts(rules):
        texts = [*expressions.findings(alert["expr"], recorded), *manners(alert, recorded)]
        yield from (f"{alert['alert']}: {text}" for text in texts)
    yield from untested(rules, cases)
    yield from unwatched(rules, recorded)


def manners(alert, recorded):
    """What whoever is woken needs to know."""
    notes = alert.get("annotations", {})
    if alert.get("labels", {}).get("severity") not in SEVERITIES:
        yield f"its severity is none of {', '.join(sorted(SEVERITIES))}"
    for name in ("summary", "description", "runbook"):
        if not notes.get(name) or "\n" in notes[name].strip():
            yield f"its {name} is not one line"
    known = expressions.kept(alert["expr"])
    if known is None:
        known = set().union(*(recorded.labels(name) for name in expressions.names(alert["expr"])))
    for label in sorted(set(re.findall(r"\$labels\.(\w+)", " ".join(notes.values()))) - known):
        yield f"its text names the label {label}, which it does not have"


def untested(rules, cases):
    """Alerts that no case lets fire, or none tries in vain."""
    fires, silent = set(), set()
    for case in cases["tests"]:
        for asked in case.get("promql_expr_test", []):
            named = set(re.findall(r'alertname="(\w+)"', asked["expr"]))
            if asked["exp_samples"]:
                fires |= {name for sample in asked["exp_samples"] for name in re.findall(r'alertname="(\w+)"', sample["labels"])}
            else:
                silent |= named
    for name in (alert["alert"] for alert in alerts(rules)):
        if name not in fires:
            yield f"{name}: no case lets it fire"
        if name not in silent:
            yield f"{name}: no case says when it must not fire"


def unwatched(rules, recorded):
    """Reasons of failures that no alert knows."""
    matched = " ".join(alert["expr"] for alert in alerts(rules) if "herald_deliveries_failed_total" in alert["expr"])
    watched = {reason for text in re.findall(r'reason=~?"([^"]*)"', matched) for reason in text.split("|")}
    known = recorded.series.get("herald_deliveries_failed_total", {}).get("reason", set())
    yield from (f"no alert knows messages that failed with {reason}" for reason in sorted(known - watched - NOBODYS))
    yield from (f"{reason} is watched, and said to be nobody's affair" for reason in sorted(watched & NOBODYS))
