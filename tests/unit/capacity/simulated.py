"""Simulates a queue with several workers, message by message, from a seed."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable

from mqkit.capacity import Load


def service_times(load: Load, drawn: random.Random) -> Callable[[], float]:
    """Return what draws service times with the load's mean and spread, of a gamma distribution."""
    if not load.cv:
        return lambda: load.service_time
    shape = 1 / load.cv**2
    return lambda: drawn.gammavariate(shape, load.service_time / shape)


def simulated_waits(load: Load, workers: int, *, messages: int, seed: int) -> list[float]:
    """Return how long each message waited for one of the workers, in ascending order.

    The first tenth is left out: the queue begins empty.
    """
    drawn = random.Random(seed)
    draw = service_times(load, drawn)
    free_at = [0.0] * workers
    now, waited = 0.0, []
    for _ in range(messages):
        now += drawn.expovariate(load.rate)
        begins = max(now, free_at[0])
        waited.append(begins - now)
        heapq.heapreplace(free_at, begins + draw())
    return sorted(waited[messages // 10 :])
