"""What a PromQL expression needs to be there: metrics, labels and their values. promtool judges its syntax."""

import re
from dataclasses import dataclass, field

# Labels that Prometheus adds to what it scrapes.
TARGET = {"namespace", "job", "pod", "instance"}
# What Prometheus knows by itself, with the labels that are not a target's.
BUILT_IN = {"up": set(), "ALERTS": {"alertname", "alertstate", "severity"}}
STRING = r'"(?:[^"\\]|\\.)*"'
SELECTOR = re.compile(rf"\b(herald_\w+|{'|'.join(BUILT_IN)})\b(?:\s*\{{((?:{STRING}|[^}}\"])*)\}})?")
MATCHER = re.compile(rf"(\w+)\s*(=~|!~|!=|=)\s*({STRING})")
GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
KEPT = re.compile(r"\bby\s*\(([^)]*)\)")


@dataclass
class Recorded:
    """What was scraped: each series' name with the values of its labels."""

    series: dict = field(default_factory=dict)

    def add(self, name, labels):
        known = self.series.setdefault(name, {})
        for label, value in labels.items():
            known.setdefault(label, set()).add(value)

    def labels(self, name):
        return set(self.series.get(name, {})) | BUILT_IN.get(name, set()) | TARGET


def names(expr):
    """The metrics that an expression reads."""
    return {name for name, _ in SELECTOR.findall(without_groupings(expr))}


def kept(expr):
    """The labels that its result may have; `None` if it may have all of its metrics'."""
    groups = KEPT.findall(expr)
    return {label for group in groups for label in listed(group)} if groups else None


def listed(group):
    return {label.strip() for label in group.split(",") if label.strip()}


def without_groupings(expr):
    return GROUPING.sub(" ", expr)


def findings(expr, recorded):
    """What the expression asks for and Herald never says."""
    read = names(expr)
    if not read:
        yield "reads no metric"
    for name, matchers in SELECTOR.findall(without_groupings(expr)):
        if name not in recorded.series and name not in BUILT_IN:
            yield f"there is no metric {name}"
            continue
        for label, operator, text in MATCHER.findall(matchers):
            if label not in recorded.labels(name):
                yield f"{name} has no label {label}"
            elif operator in ("=", "=~", "!=") and label in recorded.series.get(name, {}):
                wanted = text.strip('"').split("|") if operator == "=~" else [text.strip('"')]
                unheard = set(wanted) - recorded.series[name][label]
                yield from (f"{name} never has {label}={value}" for value in sorted(unheard))
    known = set().union(*(recorded.labels(name) for name in read))
    for group in GROUPING.findall(expr):
        yield from (f"none of its metrics has the label {label}" for label in sorted(listed(group) - known))
