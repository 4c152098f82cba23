"""What a PromQL expression needs to have happened: metrics, labels and their values. promtool judges its syntax."""

import re
from dataclasses import dataclass, field

# Labels that Prometheus adds to what it scrapes.
TARGET = {"namespace", "job", "service", "pod", "instance"}
# What Prometheus knows by itself, with the labels that are not a target's.
BUILT_IN = {"up": set(), "ALERTS": {"alertname", "alertstate", "severity"}}
# What need not have happened in the scripted runs, and why. It has to be said, as 0, all the same.
UNHEARD = {
    ("herald_deliveries_failed_total", "reason"): (
        {
            "unreachable", "timeout", "connection_lost", "server_error", "invalid_answer", "rate_limited", "interrupted", "expired",
            "too_long", "rejected", "internal", "missing_permission", "not_in_channel", "channel_not_found", "quota",
        },
        "the runs let one message fail, for `channel_archived`; every reason takes the same way to its label",
    ),
    ("herald_events_total", "outcome"): ({"lost"}, "in these runs the store does not break while somebody writes"),
    ("herald_conversations_held", None): ({None}, "whether a turn is in progress hangs on the moment of the scrape"),
}
STRING = r'"(?:[^"\\]|\\.)*"'
SELECTOR = re.compile(rf"\b(herald_\w+|{'|'.join(BUILT_IN)})\b(?:\s*\{{((?:{STRING}|[^}}\"])*)\}})?")
MATCHER = re.compile(rf"(\w+)\s*(=~|!~|!=|=)\s*({STRING})")
GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
KEPT = re.compile(r"\bby\s*\(([^)]*)\)")


@dataclass
class Recorded:
    """What was scraped: each series' name with the values of its labels, and which of them were ever above 0."""

    series: dict = field(default_factory=dict)
    happened: set = field(default_factory=set)

    def add(self, name, labels, value):
        known = self.series.setdefault(name, {})
        for label, text in labels.items():
            known.setdefault(label, set()).add(text)
        if value > 0:
            self.happened |= {(name, None, None), *((name, label, text) for label, text in labels.items())}

    def unheard(self, name, label=None, values=(None,)):
        """The values with which nothing was ever counted, without those for which that is known."""
        known = UNHEARD.get((name, label), (set(), ""))[0]
        return sorted(value for value in set(values) - known if (name, label, value) not in self.happened)

    def idle(self):
        """Exceptions that there is no reason for: it was counted after all. What a gauge shows hangs on the moment."""
        counters = ((*key, values) for key, (values, _) in UNHEARD.items() if key[0].endswith("_total"))
        every = ((name, label, value) for name, label, values in counters for value in values)
        return sorted(self.happened & set(every), key=str)

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
        if name in recorded.series and recorded.unheard(name):
            yield f"{name} was never above 0"
        for label, operator, text in MATCHER.findall(matchers):
            if label not in recorded.labels(name):
                yield f"{name} has no label {label}"
            elif operator in ("=", "=~", "!=") and label in recorded.series.get(name, {}):
                wanted = text.strip('"').split("|") if operator == "=~" else [text.strip('"')]
                unknown = set(wanted) - recorded.series[name][label]
                yield from (f"{name} never has {label}={value}" for value in sorted(unknown))
                unheard = recorded.unheard(name, label, set(wanted) - unknown)
                yield from (f"{name} was never above 0 with {label}={value}" for value in unheard)
    known = set().union(*(recorded.labels(name) for name in read))
    for group in GROUPING.findall(expr):
        yield from (f"none of its metrics has the label {label}" for label in sorted(listed(group) - known))
