"""The payment services, all of them."""

from __future__ import annotations

from importlib import import_module

from mqkit import Service

NAMES = (
    *("orders", "risk", "ledger", "refunds", "billing", "monitoring", "statements"),
    "notifications",
)


def payment_services() -> list[Service]:
    """Each service of handlers/ that has handlers; the web door only publishes."""
    found = [import_module(f"handlers.{name}").service for name in NAMES]
    assert all(isinstance(each, Service) for each in found)
    return found
