"""Runs a service in a test, and tells what became of each message."""

from typing import TYPE_CHECKING

from mqkit.testing.lazy_names import lazy_names

if TYPE_CHECKING:
    from mqkit.testing.harness.run import Harness, HarnessError, HarnessTimeoutError, harness

__all__ = ["Harness", "HarnessError", "HarnessTimeoutError", "harness"]

__getattr__ = lazy_names(
    __name__,
    {
        "Harness": "run",
        "HarnessError": "run",
        "HarnessTimeoutError": "run",
        "harness": "run",
    },
)
