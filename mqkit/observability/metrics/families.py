"""Names all metrics: what each counts, its labels, and how those of several processes add up."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What a metric is to Prometheus."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


Together = Callable[[Iterable[float]], float]
"""Makes one number of those of several processes."""


@dataclass(frozen=True, slots=True)
class Family:
    """One metric: its name, labels and meaning."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    """All but `service`, which each has."""
    help: str
    together: Together = sum


COUNTER, GAUGE, HISTOGRAM = Kind.COUNTER, Kind.GAUGE, Kind.HISTOGRAM

OF_HANDLER = ("handler", "queue")

FAMILIES = (
    Family(
        "mqkit_handled_total",
        COUNTER,
        (*OF_HANDLER, "outcome"),
        "Deliveries that were settled, by outcome: acked, retried, dead_lettered, requeued, lost.",
    ),
    Family(
        "mqkit_retries_total",
        COUNTER,
        OF_HANDLER,
        "Retries: copies that come back later, and messages held in their place for it.",
    ),
    Family(
        "mqkit_dead_letters_total",
        COUNTER,
        (*OF_HANDLER, "reason"),
        "Messages that were dead-lettered, by reason.",
    ),
    Family(
        "mqkit_queue_seconds",
        HISTOGRAM,
        OF_HANDLER,
        "Seconds from the publish of a message to its first run; the publisher's timestamp is in "
        "whole seconds, unless the broker writes timestamp_in_ms.",
    ),
    Family(
        "mqkit_handler_seconds",
        HISTOGRAM,
        OF_HANDLER,
        "Seconds that a run of the handler took, with its middleware and its transaction.",
    ),
    Family(
        "mqkit_in_flight",
        GAUGE,
        OF_HANDLER,
        "Deliveries whose handler runs, or whose outcome is being settled.",
    ),
    Family(
        "mqkit_consumers",
        GAUGE,
        (*OF_HANDLER, "status"),
        "Consumers by what they do: consuming, paused, detached, stopped.",
    ),
    Family("mqkit_pauses_total", COUNTER, OF_HANDLER, "How often the handler was paused."),
    Family(
        "mqkit_partitions_owned",
        GAUGE,
        OF_HANDLER,
        "Partitions of which a message runs, or was settled within the last minute.",
    ),
    Family(
        "mqkit_publishes_total",
        COUNTER,
        ("result",),
        "Publishes of the service's publisher that have ended, by result.",
    ),
    Family(
        "mqkit_confirm_seconds",
        HISTOGRAM,
        (),
        "Seconds from a publish to its confirm, with all waits and with publishing again.",
    ),
    Family("mqkit_connected", GAUGE, ("connection",), "Connections to the broker that are open."),
    Family(
        "mqkit_reconnects_total",
        COUNTER,
        ("connection",),
        "How often a lost connection was opened again.",
    ),
    Family(
        "mqkit_blocked_seconds_total",
        COUNTER,
        ("connection",),
        "Seconds for which the broker has blocked publishers: a memory or disk alarm.",
    ),
    Family("mqkit_store_up", GAUGE, (), "1 where the store answers, else 0.", min),
    Family(
        "mqkit_outbox_messages",
        GAUGE,
        (),
        "Messages that are committed to the outbox and not published yet; counted up to 100,000.",
        max,
    ),
    Family(
        "mqkit_outbox_dead_messages",
        GAUGE,
        (),
        "Messages of the outbox that can never be published; counted up to 100,000.",
        max,
    ),
    Family(
        "mqkit_outbox_oldest_seconds",
        GAUGE,
        (),
        "Seconds since the oldest message that waits in the outbox was written; 0 if none waits.",
        max,
    ),
    Family(
        "mqkit_sagas",
        GAUGE,
        ("saga", "status"),
        "Sagas that are not completed, by status: running, compensating.",
        max,
    ),
    Family("mqkit_processes", GAUGE, (), "Processes that run the service."),
    Family(
        "mqkit_process_restarts_total",
        COUNTER,
        (),
        "Processes that were started in the place of one that had ended.",
    ),
)
"""All metrics, in the order in which they are written."""

BY_NAME = {family.name: family for family in FAMILIES}
