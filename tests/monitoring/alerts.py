"""Whether the alerts ask for what Herald says, tell people enough, and have a case for and against each of them."""

import re

import expressions

SEVERITIES = {"critical", "warning"}
# What a recording has to be, so that nothing is forgotten that a process counted before it was first scraped.
COUNTED = "increase({0}[{1}]) + (min_over_time({0}[{1}]) unless last_over_time({0}[1h] offset {1})) or increase({0}[{1}])"
RECORDING = re.compile(r"\bherald:(\w+):increase(\w+)")
# Reasons after which no person has to act: policy said no, an operator did it, an agent named what is gone. For `auth` messages
# wait, and the breaker says so; none that is kept ends with it.
NOBODYS = {"denied", "discarded", "message_not_found", "auth"}


def alerts(rules):
    return [rule for group in rules["groups"] for rule in group["rules"] if "alert" in rule]


def recordings(rules):
    return {rule["record"]: rule["expr"] for group in rules["groups"] for rule in group["rules"] if "record" in rule}


def plain(expr):
    """The expression with the counters that its recordings count."""
    return RECORDING.sub(r"herald_\1_total", expr)


def findings(rules, cases, recorded):
    for alert in alerts(rules):
        alert = alert | {"expr": plain(alert["expr"])}
        texts = [*expressions.findings(alert["expr"], recorded), *manners(alert, recorded)]
        yield from (f"{alert['alert']}: {text}" for text in texts)
    yield from counting(rules)
    yield from untested(rules, cases)
    yield from unwatched(rules, recorded)


def counting(rules):
    """What happened is counted in one way, by recordings, which alerts read."""
    known, read = recordings(rules), set()
    for alert in alerts(rules):
        read |= {found[0] for found in RECORDING.finditer(alert["expr"])}
        if re.search(r"_total\b", alert["expr"]):
            yield f"{alert['alert']}: reads a counter itself, and so misses what was counted before the first scrape"
    yield from (f"there is no recording {name}" for name in sorted(read - set(known)))
    yield from (f"nothing reads the recording {name}" for name in sorted(set(known) - read))
    for name, expr in known.items():
        counter = RECORDING.fullmatch(name)
        if not counter or " ".join(expr.split()) != COUNTED.format(f"herald_{counter[1]}_total", counter[2]):
            yield f"{name}: is not counted as the others"


def unexplained(rules, readme):
    """README.md says for each alert, and for no other, what to do, and whether it is worth waking somebody."""
    said = dict(re.findall(r"^\| (Herald\w+)( \(critical\))? \| \S", readme, re.M))
    known = {rule["alert"]: rule.get("labels", {}).get("severity") == "critical" for rule in alerts(rules)}
    yield from (f"README.md does not say what to do about {name}" for name in sorted(set(known) - set(said)))
    yield from (f"README.md explains {name}, which is no alert" for name in sorted(set(said) - set(known)))
    for name in sorted(set(known) & set(said)):
        if known[name] != bool(said[name]):
            yield f"README.md says something else about how urgent {name} is"


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
    matched = " ".join(alert["expr"] for alert in alerts(rules) if "herald:deliveries_failed:" in alert["expr"])
    watched = {reason for text in re.findall(r'reason=~?"([^"]*)"', matched) for reason in text.split("|")}
    known = recorded.series.get("herald_deliveries_failed_total", {}).get("reason", set())
    yield from (f"no alert knows messages that failed with {reason}" for reason in sorted(known - watched - NOBODYS))
    yield from (f"{reason} is watched, and said to be nobody's affair" for reason in sorted(watched & NOBODYS))
