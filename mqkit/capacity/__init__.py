"""Computes how many workers a load and a deadline need. Pure: nothing is measured here."""

from mqkit.capacity.errors import CapacityError
from mqkit.capacity.plan import Plan, plan
from mqkit.capacity.queueing import MAX_WORKERS, Load, Waits, waits, workers_for

__all__ = ["MAX_WORKERS", "CapacityError", "Load", "Plan", "Waits", "plan", "waits", "workers_for"]
