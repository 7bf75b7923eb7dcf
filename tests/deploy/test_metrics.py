"""deploy/prometheus and deploy/grafana: every expression is about metrics and labels that a node really has.

`scripts/deploy-check` has Prometheus itself read them, and runs alerts_test.yml.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from neumann.server.http import HttpCounters
from neumann.server.metrics import METRICS, PREFIX, metrics_text
from tests.deploy import DEPLOY
from tests.procedures.pages import DOCS
from tests.runtime.nodes import config_of, one_node, put

RUNBOOK = (DOCS / "runbook.md").read_text()
OF_PROMETHEUS = {"up"}
"""What Prometheus itself makes of each scrape."""
ITS_LABELS = {"instance", "job", "le"}
_STRING = r'"[^"]*"'
_NAME = r"(?<![\w$.])(?:neumann_\w+|process_\w+|up)\b"
_SELECTOR = re.compile(rf"({_NAME})(?:\{{((?:\w+!?=~?{_STRING},?)*)\}})?")
_GROUPING = re.compile(r"\bby \(([^)]*)\)")


@cache
def alerts() -> list[dict[str, Any]]:
    [rules] = yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text())["groups"]
    return list(rules["rules"])


def board() -> dict[str, Any]:
    return dict(json.loads((DEPLOY / "grafana/neumann.json").read_text()))


def panels() -> list[dict[str, Any]]:
    return [panel for panel in board()["panels"] if panel["type"] != "row"]


def expressions() -> Iterator[tuple[str, str, str]]:
    """(where, expression, text that names labels) of all there are."""
    for alert in alerts():
        yield alert["alert"], alert["expr"], alert["annotations"]["summary"]
    for panel in panels():
        for target in panel["targets"]:
            yield panel["title"], target["expr"], target["legendFormat"]


def labels_of(metric: str) -> set[str]:
    name = re.sub("_bucket$", "", metric).removeprefix(PREFIX)
    return {*(METRICS[name].labels if metric.startswith(PREFIX) else ()), *ITS_LABELS}


async def test_every_metric_is_one_that_a_node_has(tmp_path: Path) -> None:
    """The page of a real node that leads, has written, archived and counted its rows."""
    archive = tmp_path / "archive"
    archive.mkdir()
    config = config_of(tmp_path, archive_command=f"cp %p {archive}/%f")
    async with one_node(config) as node:
        await node.write(put("a"))
        await node.stats()
        page = metrics_text(node.gauges(), HttpCounters()).decode()
    families = list(text_string_to_metric_families(page))
    shown = {family.name + "_total" * (family.type == "counter") for family in families}
    shown |= {f"{family.name}_bucket" for family in families if family.type == "histogram"}
    wanted = {metric for _, expr, _ in expressions() for metric, _ in _SELECTOR.findall(expr)}
    assert len(wanted) > 40
    assert wanted - OF_PROMETHEUS - shown == set()


def test_every_label_is_one_of_its_metric() -> None:
    for where, expr, text in expressions():
        selectors = _SELECTOR.findall(expr)
        for metric, matchers in selectors:
            named = set(re.findall(r"(\w+)!?=~?", re.sub(_STRING, "", matchers)))
            assert named <= labels_of(metric), f"{where}: {metric} has no label {named - labels_of(metric)}"
        known = set().union(*(labels_of(metric) for metric, _ in selectors))
        grouped = [set(re.split(r",\s*", labels)) for labels in _GROUPING.findall(expr)]
        assert set().union(*grouped) <= known, f"{where}: {expr}"
        shown = set(re.findall(r"\{\{ ?(?:\$labels\.)?(\w+)", text))
        left = known if not re.search(r"\b(max|sum)\b", expr) else set().union(*grouped) - {"le"}
        assert shown <= left, f"{where}: {text!r} names a label that {expr} has not"


def test_what_the_runbook_says_to_alert_on_is_alerted_on() -> None:
    strategy = " ".join(RUNBOOK.partition("So alert on")[2].partition("\n## ")[0].split())
    told = re.findall(r"`([^`]* [<>] [^`]*)`", strategy)
    assert len(told) == 3
    ours = {alert["expr"] for alert in alerts()}
    assert set(told) <= ours
    assert "or no such number" in strategy and "absent(neumann_archive_lag_seconds)" in ours


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: str(alert["alert"]))
def test_an_alert_says_what_to_do(alert: dict[str, Any]) -> None:
    assert set(alert) == {"alert", "expr", "for", "labels", "annotations"}
    assert alert["labels"]["severity"] in {"critical", "warning"}
    description = alert["annotations"]["description"]
    sections = re.findall('"([^"]+)"', description.partition("Runbook: ")[2])
    assert sections, f"{alert['alert']} names no section of the runbook"
    assert [name for name in sections if f"\n## {name}\n" not in RUNBOOK] == []


def test_every_alert_is_seen_to_fire() -> None:
    """By promtool, in scripts/deploy-check; that none is forgotten, here."""
    tests = (Path(__file__).parent / "alerts_test.yml").read_text()
    assert set(re.findall(r'alertname="(\w+)"', tests)) == {alert["alert"] for alert in alerts()}


def test_the_scraped_job_is_the_one_that_is_asked_for() -> None:
    [job] = yaml.safe_load((DEPLOY / "prometheus/scrape.yml").read_text())["scrape_configs"]
    named = {name for _, expr, _ in expressions() for name in re.findall('job="([^"]*)"', expr)}
    assert named == {job["job_name"]}


def test_the_dashboard_is_laid_out() -> None:
    ids = [panel["id"] for panel in board()["panels"]]
    assert len(ids) == len(set(ids))
    rows = [panel["title"] for panel in board()["panels"] if panel["type"] == "row"]
    assert rows == ["Is it safe", "Writes and latency", "Snapshots and archive", "Store and disk", "Damage"]
    for panel in panels():
        assert panel["description"] and panel["targets"]
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
        assert {target["datasource"]["uid"] for target in panel["targets"]} == {"${datasource}"}
