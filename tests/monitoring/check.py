"""Checks manifests/monitoring: check.py WORKDIR METRICS…, the latter what /metrics said in scripted runs. Then plants mistakes."""

import copy
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse

import alerts
import dashboard
import mistakes
from expressions import Recorded

ROOT = Path(__file__).resolve().parents[2]
MONITORING = ROOT / "manifests/monitoring"


@dataclass
class Subject:
    """What is checked."""

    rules: dict
    cases: dict
    dashboard: dict
    metrics: list
    readme: str


class Scraped:
    """What one scrape said, to be written in the older format that promtool reads."""

    def __init__(self, families):
        self.families = families

    def collect(self):
        return self.families


def load(files):
    kustomization = yaml.safe_load((MONITORING / "kustomization.yaml").read_text(encoding="utf-8"))
    generated = kustomization["configMapGenerator"][0]
    options = generated["options"]
    assert options["labels"]["grafana_dashboard"] == "1" and options["disableNameSuffixHash"], "Grafana does not find the dashboard"
    file = generated["files"][0].partition("=")[2]
    return Subject(
        rules=yaml.safe_load((MONITORING / "prometheusrule.yaml").read_text(encoding="utf-8"))["spec"],
        cases=yaml.safe_load((ROOT / "tests/monitoring/alerts_test.yaml").read_text(encoding="utf-8")),
        dashboard=json.loads((MONITORING / file).read_text(encoding="utf-8")),
        metrics=[Path(file).read_text(encoding="utf-8") for file in files],
        readme=(ROOT / "README.md").read_text(encoding="utf-8"),
    )


def promtool(*arguments, given=None):
    """What promtool says against it, in one line; nothing if it is content."""
    made = subprocess.run(["promtool", *arguments], input=given, capture_output=True, text=True, check=False)
    if made.returncode != 0:
        yield f"promtool {' '.join(arguments[:2])}: {' '.join((made.stdout + made.stderr).split())}"


def judged_by_promtool(subject, work):
    """The syntax of every expression, and the alerts over time."""
    shown = [{"record": "panel", "labels": {"n": str(n)}, "expr": dashboard.plain(target["expr"])}
             for n, (_, target) in enumerate(dashboard.queries(subject.dashboard))]
    (work / "rules.yaml").write_text(yaml.safe_dump(subject.rules), encoding="utf-8")
    (work / "panels.yaml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": shown}]}), encoding="utf-8")
    (work / "alerts_test.yaml").write_text(yaml.safe_dump(subject.cases), encoding="utf-8")
    yield from promtool("check", "rules", str(work / "rules.yaml"))
    yield from promtool("check", "rules", str(work / "panels.yaml"))
    yield from promtool("test", "rules", str(work / "alerts_test.yaml"))


def record(metrics):
    """What was scraped, and what is wrong with its form."""
    recorded, found = Recorded(), []
    for text in metrics:
        try:
            families = list(parse(text))
        except ValueError as error:
            found.append(f"/metrics is not OpenMetrics: {error}")
            continue
        for family in families:
            for sample in family.samples:
                recorded.add(sample.name, sample.labels, sample.value)
        registry = CollectorRegistry()
        registry.register(Scraped(families))
        found += promtool("check", "metrics", given=generate_latest(registry).decode())
    return recorded, found


def findings(subject, work):
    """Everything that is wrong; what takes longest comes last."""
    recorded, found = record(subject.metrics)
    yield from found
    yield from (f"{name} was above 0, and is said not to be: {label}={value}" for name, label, value in recorded.idle())
    yield from alerts.findings(subject.rules, subject.cases, recorded)
    yield from alerts.unexplained(subject.rules, subject.readme)
    yield from dashboard.findings(subject.dashboard, recorded)
    yield from judged_by_promtool(subject, work)


def main():
    work, *files = sys.argv[1:]
    work = Path(work)
    if not files:
        sys.exit("there is nothing that was scraped")
    subject = load(files)
    found = list(findings(subject, work))
    if found:
        sys.exit("\n".join(found))
    count = len(alerts.alerts(subject.rules)), len(list(dashboard.queries(subject.dashboard)))
    print(f"{count[0]} alerts, {count[1]} queries of the dashboard, {len(files)} scrapes: sound")

    for name, (plant, expected) in mistakes.MISTAKES.items():
        spoilt = copy.deepcopy(subject)
        plant(spoilt)
        if not any(expected in text for text in findings(spoilt, work)):
            sys.exit(f"the planted mistake was not caught: {name}")
    print(f"{len(mistakes.MISTAKES)} planted mistakes: caught")


if __name__ == "__main__":
    main()
