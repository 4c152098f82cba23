"""Whether Grafana can show the dashboard, and whether it shows what Herald says."""

import re

import expressions

# Panels that every Grafana has.
CORE = {"row", "stat", "timeseries", "state-timeline", "table", "bargauge", "gauge", "heatmap", "text"}
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
VARIABLE = re.compile(r"label_values\((\w+)(?:\{.*\})?, (\w+)\)")


def queries(dashboard):
    """Each panel's title with each of its targets."""
    for panel in dashboard["panels"]:
        yield from ((panel.get("title"), target) for target in panel.get("targets", []))


def plain(expr):
    """The expression as Prometheus gets it, with anything for Grafana's variables."""
    return expr.replace("$__rate_interval", "5m").replace("$__range", "1h").replace("$namespace", ".*").replace("$job", ".*")


def findings(dashboard, recorded):
    yield from frame(dashboard, recorded)
    yield from grid(dashboard["panels"])
    for panel in dashboard["panels"]:
        yield from (f"panel {panel.get('id')} {panel.get('title')!r}: {text}" for text in panel_findings(panel))
    for title, target in queries(dashboard):
        expr = plain(target["expr"])
        yield from (f"panel {title!r}: {text}" for text in expressions.findings(expr, recorded))
        shown = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
        for label in sorted(shown - (expressions.kept(expr) or set())):
            yield f"panel {title!r}: its legend names {label}, which its expression does not keep"
        if "$" in expr:
            yield f"panel {title!r}: an unknown variable is in {expr}"
    shown = {name for _, target in queries(dashboard) for name in expressions.names(target["expr"])}
    for name in sorted(family(name) for name in recorded.series):
        if name not in {family(known) for known in shown}:
            yield f"{name} is on no panel"


def family(name):
    """A histogram's name without what its series are called."""
    return re.sub(r"_(bucket|sum|count)$", "", name)


def frame(dashboard, recorded):
    """The dashboard around its panels."""
    if dashboard.get("id") is not None or not dashboard.get("uid") or not dashboard.get("title"):
        yield "the dashboard has a title, a uid, and no id of one Grafana"
    if dashboard.get("schemaVersion", 0) < 39 or "__inputs" in dashboard:
        yield "the dashboard is of an old schema, or was exported for another Grafana"
    variables = {variable["name"]: variable for variable in dashboard["templating"]["list"]}
    if variables.get("datasource", {}).get("type") != "datasource":
        yield "there is no variable `datasource`"
    for variable in variables.values():
        if variable["type"] == "query":
            asked = VARIABLE.fullmatch(variable["query"]["query"])
            if not asked or asked[1] not in recorded.series or asked[2] not in recorded.labels(asked[1]):
                yield f"the variable {variable['name']} asks for what there is not: {variable['query']['query']}"


def panel_findings(panel):
    if not panel.get("title"):
        yield "has no title"
    if panel["type"] not in CORE:
        yield f"{panel['type']} is no panel of Grafana's core"
    if panel["type"] == "row":
        return
    sources = [panel.get("datasource"), *(target.get("datasource") for target in panel.get("targets", []))]
    if any(source != DATASOURCE for source in sources):
        yield "does not ask the variable `datasource`"
    if not panel.get("description"):
        yield "has no description"
    if not panel.get("targets"):
        yield "asks nothing"
    if not panel["fieldConfig"]["defaults"].get("unit"):
        yield "has no unit"


def grid(panels):
    """No two panels have one id or share a cell, and none is wider than the page."""
    ids, cells = set(), {}
    for panel in panels:
        place, title = panel["gridPos"], panel.get("title")
        if panel["id"] in ids:
            yield f"panel {title!r}: the id {panel['id']} is taken"
        ids.add(panel["id"])
        if place["x"] < 0 or place["w"] < 1 or place["x"] + place["w"] > 24:
            yield f"panel {title!r}: is not on the page of 24 columns"
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                if cells.setdefault((x, y), title) != title:
                    yield f"panel {title!r}: lies on {cells[x, y]!r}"
                    return
