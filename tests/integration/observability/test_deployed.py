"""The dashboard, the alert rules and the ScaledObject name what there is."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from mqkit.observability.metrics.families import BY_NAME
from mqkit.observability.metrics.metrics import Metrics
from tests.integration.observability.dashboard import (
    alerts,
    labels_in,
    metrics_in,
    panels,
    variables,
)
from tests.support import ROOT

OF_PROMETHEUS = {"job", "instance", "le"}
"""Labels that it adds, and the one of buckets."""

QUERIES = [
    *((title, each) for title, queries in panels() for each in queries),
    *alerts(),
    *(("variable", each) for each in variables()),
]


@pytest.mark.parametrize(("where", "query"), QUERIES, ids=lambda each: each[:40])
def test_a_query_names_metrics_and_labels_that_there_are(where: str, query: str) -> None:
    """Each panel's, each alert's; a metric that is renamed leaves no panel empty in silence"""
    used = metrics_in(query)
    if query.startswith("up{"):
        return
    assert used, where
    assert used <= set(BY_NAME)
    known = {label for name in used for label in BY_NAME[name].labels} | {"service"}
    assert labels_in(query) - OF_PROMETHEUS <= known


def test_every_metric_is_shown() -> None:
    """One that nobody looks at tells nobody anything"""
    shown = {name for _, queries in panels() for each in queries for name in metrics_in(each)}
    assert set(BY_NAME) - shown == set()


def test_queries_of_other_names_would_be_found() -> None:
    """The reading of a query sees names and labels wherever they stand in it"""
    query = 'sum by (le, a) (rate(mqkit_x_seconds_bucket{b!="c",d=~"e"}[5m])) > mqkit_y_total'
    assert metrics_in(query) == {"mqkit_x_seconds", "mqkit_y_total"}
    assert labels_in(query) == {"le", "a", "b", "d"}


def test_the_scaled_object_scales_the_deployment_of_the_guide() -> None:
    """Its queue and its Deployment are those that the guides have"""
    text = (ROOT / "deploy" / "keda" / "scaledobject.yaml").read_text()
    objects: list[Any] = list(yaml.safe_load_all(text))
    (scaled,) = [each for each in objects if each["kind"] == "ScaledObject"]
    assert scaled["spec"]["scaleTargetRef"]["name"] == "ledger"
    (trigger,) = scaled["spec"]["triggers"]
    assert trigger["metadata"]["queueName"] == "ledger.post"
    names = {
        each["metadata"]["name"] for each in objects if each["kind"] == "TriggerAuthentication"
    }
    assert trigger["authenticationRef"]["name"] in names


def test_a_metric_that_is_read_by_others_keeps_its_name() -> None:
    """`mqkit capacity --live` reads them from a scrape, by the label `queue`"""
    for name in ("mqkit_handler_seconds", "mqkit_queue_seconds", "mqkit_handled_total"):
        assert "queue" in BY_NAME[name].labels
    assert Metrics.times_runs
