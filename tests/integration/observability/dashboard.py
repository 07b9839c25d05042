"""Reads the dashboard and the alert rules of deploy/, for tests that hold them to the metrics."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import yaml

from tests.support import ROOT

DASHBOARD = ROOT / "deploy" / "grafana" / "mqkit.json"
RULES = ROOT / "deploy" / "prometheus" / "mqkit.rules.yml"


def panels() -> Iterator[tuple[str, list[str]]]:
    """The title and the queries of each panel that shows something."""
    board: dict[str, Any] = json.loads(DASHBOARD.read_text())
    for panel in board["panels"]:
        if panel["type"] != "row":
            yield panel["title"], [target["expr"] for target in panel["targets"]]


def variables() -> Iterator[str]:
    """The queries of the dashboard's variables."""
    board: dict[str, Any] = json.loads(DASHBOARD.read_text())
    for each in board["templating"]["list"]:
        if each["type"] == "query":
            yield each["definition"]


def alerts() -> Iterator[tuple[str, str]]:
    """The name and the expression of each alert."""
    groups: Any = yaml.safe_load(RULES.read_text())["groups"]
    for group in groups:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]


def metrics_in(expression: str) -> set[str]:
    """The metrics that a query names, a histogram's by the name that it has here."""
    names = re.findall(r"\bmqkit_\w+", expression)
    return {re.sub(r"_seconds_(bucket|sum|count)$", "_seconds", name) for name in names}


def labels_in(expression: str) -> set[str]:
    """The labels that a query matches and sums by."""
    matched = re.findall(r'(\w+)(?:=~|!~|!=|=)"', expression)
    by = [name for each in re.findall(r"\bby \(([^)]*)\)", expression) for name in each.split(",")]
    return {name.strip() for name in (*matched, *by)}


def as_prometheus(expression: str) -> str:
    """Put in what Grafana would for its own variables."""
    return expression.replace("$__rate_interval", "10s").replace("$service", ".+")
