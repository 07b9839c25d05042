"""The reference is complete."""

from __future__ import annotations

import importlib
import re

import pytest

from tests.support import ROOT

REFERENCE = "\n".join(page.read_text() for page in (ROOT / "docs/reference").glob("*.md"))
SHOWN = set(re.findall(r"^::: (\S+)$", REFERENCE, re.MULTILINE))


@pytest.mark.parametrize(
    "module",
    [
        "mqkit",
        "mqkit.capacity",
        "mqkit.observability.tracing",
        "mqkit.asyncapi",
        "mqkit.dead_letters",
        "mqkit.logging",
        "mqkit.observability.metrics",
        "mqkit.overview",
        "mqkit.sagas",
        "mqkit.store",
        "mqkit.testing.harness",
    ],
)
def test_every_public_name_is_in_the_reference(module: str) -> None:
    """What can be imported from mqkit has its place in the reference"""
    names = importlib.import_module(module)
    missing = [
        name
        for name in names.__all__
        if not name.startswith("__") and name != "metadata"
        if f"{module}.{name}" not in SHOWN
    ]
    assert missing == []
