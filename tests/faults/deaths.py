"""Kills a nursery's children one after the other, and watches what memory they take."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.faults.nurseries import Nursery

SAMPLE_EVERY = 1.0
"""Seconds."""

WARM = 20.0
"""Seconds of a process's life in which it fills its pools and caches."""

MAY_GROW = 24.0
"""Mebibytes that the survivor may grow after it is warm."""

AGES = (5.0, 20.0, 60.0, 300.0, 1800.0)
"""Seconds; memory is told for processes up to each age."""

PAGE = os.sysconf("SC_PAGE_SIZE")
MEBIBYTE = 2**20


class Deaths:
    """SIGKILL for a child at random, every so many seconds, but never for the oldest worker.

    The one that is spared shows what a process takes that has handled messages all the time.
    """

    def __init__(
        self, nursery: Nursery, every: float, done: Callable[[], int] | None = None
    ) -> None:
        """Kill nobody yet.

        :param done: tells how much was done; where nothing was since the last kill, the next one
            waits, or processes of a busy machine would all be killed before they have started
        """
        self._nursery = nursery
        self._every = every
        self._done = done
        self._born: dict[int, float] = {}
        self._samples: defaultdict[int, list[tuple[float, float]]] = defaultdict(list)
        self._targets: dict[int, str] = {}
        self._survivor: int | None = None
        self.kills = 0

    async def run(self) -> None:
        """Kill and watch, until cancelled."""
        kill_at = time.monotonic() + self._every
        done = 0
        while True:
            self._nursery.check()
            children = self._nursery.children()
            self._sample(children)
            if time.monotonic() >= kill_at:
                kill_at = time.monotonic() + self._every * random.uniform(0.5, 1.5)
                before, done = done, self._done() if self._done is not None else -1
                if done != before or self._done is None:
                    self._kill(children)
            await asyncio.sleep(min(SAMPLE_EVERY, max(kill_at - time.monotonic(), 0)))

    def _kill(self, children: dict[int, str]) -> None:
        victims = [pid for pid in children if pid != self._survivor]
        if victims:
            os.kill(random.choice(victims), signal.SIGKILL)
            self.kills += 1

    def _sample(self, children: dict[int, str]) -> None:
        now = time.monotonic()
        for pid, target in children.items():
            name = target.rpartition(":")[2]
            self._targets[pid] = name
            if self._survivor is None and "worker" in name:
                self._survivor = pid
            used = _used(pid)
            if used is not None:
                age = now - self._born.setdefault(pid, now)
                self._samples[pid].append((age, used))

    def memory(self) -> dict[str, Any]:
        """Mebibytes: the survivor's when warm and at the end, and the medians by age."""
        by_age: dict[str, dict[str, float]] = {}
        for name in sorted(set(self._targets.values())):
            samples = [
                sample
                for pid, taken in self._samples.items()
                for sample in taken
                if self._targets[pid] == name
            ]
            medians = {}
            for low, high in zip((0.0, *AGES), (*AGES, float("inf")), strict=True):
                found = [used for age, used in samples if low <= age < high]
                if found:
                    medians[f"from {low:g} s"] = round(statistics.median(found), 1)
            by_age[name] = medians
        warm, last = self._survivors()
        return {
            "survivor_warm": warm,
            "survivor_at_the_end": last,
            "survivor_grew": None if warm is None or last is None else round(last - warm, 1),
            "by_age": by_age,
        }

    def problems(self) -> list[str]:
        """What is wrong with the memory."""
        warm, last = self._survivors()
        if warm is None or last is None or last - warm <= MAY_GROW:
            return []
        return [f"the survivor grew from {warm} to {last} MiB"]

    def _survivors(self) -> tuple[float | None, float | None]:
        samples = self._samples[self._survivor] if self._survivor is not None else []
        warm = [used for age, used in samples if age >= WARM]
        if not warm:
            return None, None
        some = max(len(warm) // 10, 1)
        return (
            round(statistics.median(warm[:some]), 1),
            round(statistics.median(warm[-some:]), 1),
        )


def _used(pid: int) -> float | None:
    """Mebibytes that are its own: not those that it shares with the parent it was forked from."""
    try:
        _, resident, shared, *_ = Path(f"/proc/{pid}/statm").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return (int(resident) - int(shared)) * PAGE / MEBIBYTE
