"""Runs a service in a test, and tells what became of each message."""

from typing import TYPE_CHECKING

from mqkit.testing.lazy_names import lazy_names

if TYPE_CHECKING:
    from mqkit.testing.harness.errors import HarnessError, HarnessTimeoutError
    from mqkit.testing.harness.records import (
        Attempt,
        DeadLettered,
        DeadMessage,
        Handled,
        Published,
        Result,
        Retried,
    )
    from mqkit.testing.harness.run import Harness, harness

__all__ = [
    "Attempt",
    "DeadLettered",
    "DeadMessage",
    "Handled",
    "Harness",
    "HarnessError",
    "HarnessTimeoutError",
    "Published",
    "Result",
    "Retried",
    "harness",
]

__getattr__ = lazy_names(
    __name__,
    {
        "Attempt": "records",
        "DeadLettered": "records",
        "DeadMessage": "records",
        "Handled": "records",
        "Harness": "run",
        "HarnessError": "errors",
        "HarnessTimeoutError": "errors",
        "Published": "records",
        "Result": "records",
        "Retried": "records",
        "harness": "run",
    },
)
