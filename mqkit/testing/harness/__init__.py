"""Runs a service in a test, and tells what became of each message."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mqkit.testing.harness.run import Harness, harness

__all__ = ["Harness", "harness"]

_HOMES = {"Harness": "mqkit.testing.harness.run", "harness": "mqkit.testing.harness.run"}
"""Where each name is. It is imported when it is first asked for, as in `mqkit` itself."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
