"""Knows which message the running code handles, for the lines that it logs.

One context variable holds the run of a handler while it goes on; tasks and threads that it starts
have it, too. The fields are made of it only when somebody logs. Where OpenTelemetry traces what
runs, its own context says of which trace and span that is a part.
"""

from __future__ import annotations

import logging
import sys
from contextvars import ContextVar
from typing import Any, Protocol

from mqkit.message import Delivery

MAX_IDS = 10
"""Message ids of a batch that are named."""


class Run(Protocol):
    """A run of a handler (`mqkit.middleware.HandlerCall`)."""

    @property
    def service(self) -> str: ...
    @property
    def handler(self) -> str: ...
    @property
    def delivery(self) -> Delivery: ...
    @property
    def deliveries(self) -> tuple[Delivery, ...]: ...


RUN: ContextVar[Run] = ContextVar("mqkit run of a handler")
"""Set by the invoker alone, around a handler and its middleware."""


def fields() -> dict[str, Any]:
    """Return what identifies the message that the running code handles; {} outside of a handler.

    `service`, `handler`, `queue`, `message_id`, `attempt`, `exchange` and `routing_key`; of a batch
    `service`, `handler`, `queue`, `batch_size` and `message_ids`, the first ten of them. Where what
    runs is a part of a trace of OpenTelemetry's, in a handler or not, `trace_id` and `span_id` as
    well, in hexadecimal digits. A new dict at each call.
    """
    run = RUN.get(None)
    if run is None:
        return span_fields()
    if not run.deliveries:
        return delivery_fields(run.service, run.handler, run.delivery) | span_fields()
    return span_fields() | {
        "service": run.service,
        "handler": run.handler,
        "queue": run.delivery.queue,
        "batch_size": len(run.deliveries),
        "message_ids": [each.message_id for each in run.deliveries[:MAX_IDS]],
    }


def span_fields() -> dict[str, str]:
    """Return the ids of the trace and of the span that the running code is a part of, if any.

    OpenTelemetry is looked for among what was imported: where nobody has, there is no span, and
    logging must not be what imports it.
    """
    current = getattr(sys.modules.get("opentelemetry.trace"), "get_current_span", None)
    if current is None:
        return {}
    span = current().get_span_context()
    if not span.is_valid:
        return {}
    return {"trace_id": f"{span.trace_id:032x}", "span_id": f"{span.span_id:016x}"}


def delivery_fields(service: str, handler: str, delivery: Delivery) -> dict[str, Any]:
    """Return what identifies a delivery."""
    return {
        "service": service,
        "handler": handler,
        "queue": delivery.queue,
        "message_id": delivery.message_id,
        "attempt": delivery.attempt,
        "exchange": delivery.exchange,
        "routing_key": delivery.routing_key,
    }


NAMES = (
    "service",
    "handler",
    "queue",
    "message_id",
    "attempt",
    "exchange",
    "routing_key",
    "outcome",
    "trace_id",
    "span_id",
)
"""What every record has that went through a `FieldsFilter`."""


class FieldsFilter(logging.Filter):
    """Gives each record the fields of the message that the logging code handles; drops none.

    It belongs on a handler of the logging module (`handler.addFilter(FieldsFilter())`), so that the
    records of all loggers go through it. What a record has already stays. A field that there is
    not, as outside of a handler, is `missing`, so that a format can name any.
    """

    def __init__(self, missing: Any = None) -> None:
        super().__init__()
        self._missing = missing

    def filter(self, record: logging.LogRecord) -> bool:
        """Complete the record, and let it through."""
        own = record.__dict__
        for name, value in fields().items():
            own.setdefault(name, value)
        for name in NAMES:
            own.setdefault(name, self._missing)
        return True
