"""Reads the load of a queue from what a running service tells Prometheus. Pure: no I/O.

Two readings of `/metrics`, some seconds apart, say how many runs there were between them, how long
they took, how widely that was spread, and how long messages had waited.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from mqkit.capacity.errors import CapacityError
from mqkit.capacity.queueing import Load
from mqkit.checks.checked import shown

HANDLER_SECONDS = "mqkit_handler_seconds"
"""The histogram of how long runs of a handler took; its labels name the queue."""

QUEUE_SECONDS = "mqkit_queue_seconds"
"""The histogram of how long messages waited until their handler began."""

_LINE = re.compile(
    r"([a-zA-Z_:][a-zA-Z0-9_:]*)"  # the name
    r"(?:\{(.*)\})?"  # its labels
    r"[ \t]+(\S+)(?:[ \t]+-?\d+)?"  # the value, and when it was
)
"""A sample of Prometheus' text format (https://prometheus.io/docs/instrumenting/exposition_formats)."""

_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')

_ESCAPES = {"\\n": "\n", '\\"': '"', "\\\\": "\\"}


@dataclass
class Histogram:
    """A histogram of Prometheus, summed over all that has the queue."""

    sum: float = 0.0
    count: float = 0.0
    buckets: dict[float, float] = field(default_factory=dict)
    """How many were no larger than each bound."""

    def since(self, before: Histogram) -> Histogram:
        """Return what came after an earlier reading; all of it, where the service began anew."""
        if self.count < before.count:
            return self
        known = before.buckets
        buckets = {bound: total - known.get(bound, 0.0) for bound, total in self.buckets.items()}
        return Histogram(self.sum - before.sum, self.count - before.count, buckets)

    @property
    def mean(self) -> float:
        """The mean; 0 where there is nothing."""
        return self.sum / self.count if self.count else 0.0

    @property
    def cv(self) -> float | None:
        """The coefficient of variation, as far as buckets tell; None where they do not.

        What is in a bucket is taken as spread evenly over it.
        """
        total = first = second = below = seen = 0.0
        for bound, up_to in sorted(self.buckets.items()):
            within, seen = max(up_to - seen, 0.0), max(up_to, seen)
            above = bound if math.isfinite(bound) else 2 * below
            total += within
            first += within * (below + above) / 2
            second += within * (below * below + below * above + above * above) / 3
            below = above
        if not total or not first:
            return None
        mean = first / total
        return math.sqrt(max(second / total - mean * mean, 0.0)) / mean


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured of a queue between two readings. Times are in seconds."""

    load: Load
    runs: int
    """Runs of the handler, retries among them."""
    seconds: float
    wait: float | None
    """How long messages waited on average until their handler began; None: it is not told."""


def measured(before: str, after: str, queue: str, seconds: float) -> Measured:
    """Return the load of a queue between two readings of `/metrics`.

    :param seconds: from the one to the other
    :raises CapacityError: nothing was handled in between, or the readings do not name the queue
    """
    runs = _histogram(after, HANDLER_SECONDS, queue)
    if runs is None:
        raise CapacityError(
            f"what was read has no {HANDLER_SECONDS} of queue {shown(queue)}{_others(after)}"
        )
    runs = runs.since(_histogram(before, HANDLER_SECONDS, queue) or Histogram())
    if runs.count < 1 or not runs.sum > 0:
        raise CapacityError(
            f"no message of queue {shown(queue)} was handled in {seconds:g} s, so that there is no "
            "load to plan for; watch for longer, or give --rate and --service-time"
        )
    waited = _histogram(after, QUEUE_SECONDS, queue)
    if waited is not None:
        waited = waited.since(_histogram(before, QUEUE_SECONDS, queue) or Histogram())
    cv = runs.cv
    load = Load(runs.count / seconds, runs.mean, 1.0 if cv is None else cv)
    wait = waited.mean if waited is not None and waited.count else None
    return Measured(load, round(runs.count), seconds, wait)


def _histogram(text: str, name: str, queue: str) -> Histogram | None:
    found = None
    for sample, labels, value in _samples(text, name):
        if labels.get("queue") != queue:
            continue
        found = found or Histogram()
        if sample == f"{name}_sum":
            found.sum += value
        elif sample == f"{name}_count":
            found.count += value
        elif sample == f"{name}_bucket" and (bound := _number(labels.get("le", ""))) is not None:
            found.buckets[bound] = found.buckets.get(bound, 0.0) + value
    return found


def _others(text: str) -> str:
    """Name the queues that there are, for an error's text."""
    names = {labels.get("queue", "") for _, labels, _ in _samples(text, HANDLER_SECONDS)}
    known = sorted(name for name in names if name)
    if not known:
        return "; is it the address of `mqkit run --http PORT`, and has it handled a message yet?"
    return f"; it has {', '.join(shown(name) for name in known[:10])}"


def _samples(text: str, name: str) -> Iterable[tuple[str, dict[str, str], float]]:
    for line in text.splitlines():
        if not line.startswith(name):
            continue
        parts = _LINE.fullmatch(line.strip())
        if parts is None:
            continue
        value = _number(parts[3])
        if value is not None and not math.isnan(value):
            labels = {each[1]: _unescaped(each[2]) for each in _LABEL.finditer(parts[2] or "")}
            yield parts[1], labels, value


def _unescaped(text: str) -> str:
    return re.sub(r"\\.", lambda found: _ESCAPES.get(found[0], found[0]), text)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
