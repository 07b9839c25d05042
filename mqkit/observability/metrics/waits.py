"""Knows how long messages had waited in their queue when their runs began."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence

from mqkit.clock import Clock, monotonic
from mqkit.message import Delivery, Properties

OLDEST = 30 * 86_400.0
"""Seconds; a timestamp that is further back is nobody's idea of when the message was published."""

AHEAD = 60.0
"""Seconds by which clocks may differ; a timestamp that is further ahead tells nothing."""

LOOK_EVERY = 1.0
"""Seconds between two looks at the wall clock, which may be set."""

LATER = 2.0
"""Seconds by which a publisher's timestamp is after the broker's where the message was published
later, and not only by another clock."""

STAMP = "timestamp_in_ms"
"""The header that a broker writes whose operator has configured it
(https://www.rabbitmq.com/docs/message-interceptors): milliseconds of the broker's clock."""


class Waits:
    """Counts waits in the buckets of a histogram."""

    def __init__(self, bounds: Sequence[float], clock: Clock) -> None:
        """Count none yet.

        :param bounds: the upper bounds of the buckets, in seconds
        :param clock: the wall clock, by which messages have waited
        """
        self._bounds = list(bounds)
        self._clock = clock
        self._wall = 0.0
        """What is added to a time of the monotonic clock to make it one of the wall clock."""
        self._looks_at = -math.inf
        # Most messages were published in the same second as the one before, and have waited so long
        # that they belong into the same bucket. Such a one costs a few comparisons.
        self._last: tuple[object, float, float, float, int] = (_NO_TIMESTAMP, 0.0, 0.0, 0.0, 0)
        """A timestamp, which time on the monotonic clock that is, a bucket's limits and number."""

    def count(self, counts: list[int], waited: Sequence[tuple[Delivery, object]]) -> float:
        """Count the waits of deliveries that have run; return the seconds of all together.

        A retry has waited for its delay, and what comes again for somebody's death: neither counts.

        :param counts: how many are in each bucket, which is changed
        """
        timestamp, published, above, to, bucket = self._last
        alike, together = 0, 0.0
        for delivery, _ in waited:
            if (ran := delivery.ran) is None or delivery.attempt != 1 or delivery.redelivered:
                continue
            began, properties = ran[0], delivery.properties
            headers = properties.headers
            is_stamped = bool(headers) and STAMP in headers
            if properties.timestamp == timestamp and began <= self._looks_at and not is_stamped:
                seconds = began - published
                if above < seconds <= to:
                    alike += 1
                    together += seconds
                    continue
            moment = self._published(properties, began)
            if moment is None or not -AHEAD <= (seconds := began - moment) <= OLDEST:
                continue
            seconds = max(seconds, 0.0)
            together += seconds
            place = bisect_left(self._bounds, seconds)
            counts[place] += 1
            if not is_stamped:
                counts[bucket] += alike
                alike, bucket, timestamp, published = 0, place, properties.timestamp, moment
                above, to = self._limits(place)
        counts[bucket] += alike
        self._last = timestamp, published, above, to, bucket
        return together

    def _limits(self, bucket: int) -> tuple[float, float]:
        """Return what a wait is greater than, and what it is not greater than."""
        above = self._bounds[bucket - 1] if bucket else 0.0
        return above, min(self._bounds[bucket], OLDEST) if bucket < len(self._bounds) else OLDEST

    def _published(self, properties: Properties, began: float) -> float | None:
        """Return when a message was published, on the monotonic clock; None where nothing says."""
        if began > self._looks_at:  # the clocks cost more than all else here
            self._wall, self._looks_at = self._clock().timestamp() - monotonic(), began + LOOK_EVERY
        timestamp = None if properties.timestamp is None else properties.timestamp.timestamp()
        stamp = properties.headers.get(STAMP) if properties.headers else None
        if isinstance(stamp, int):
            by_broker = stamp / 1000
            # The broker stamps what is published later as it comes, and not when it is due.
            if timestamp is None or timestamp - by_broker <= LATER:
                timestamp = by_broker
        return None if timestamp is None else timestamp - self._wall


_NO_TIMESTAMP = object()
"""Equals the timestamp of no message, nor that of one that has none."""
