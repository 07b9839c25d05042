"""Joins what services, broker and stores say of themselves into one view of a system."""

from mqkit.overview.values import (
    HandlerView,
    Outcomes,
    Overview,
    ProcessView,
    QueueView,
    Role,
    ServiceView,
    StoreView,
)
from mqkit.overview.watcher import Watcher

__all__ = [
    "HandlerView",
    "Outcomes",
    "Overview",
    "ProcessView",
    "QueueView",
    "Role",
    "ServiceView",
    "StoreView",
    "Watcher",
]
