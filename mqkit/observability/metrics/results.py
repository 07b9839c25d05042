"""Sorts how publishes end into a few results, for a label that has no more values than these."""

from __future__ import annotations

import asyncio

from mqkit.errors import (
    BlockedError,
    ConnectError,
    ConnectionLostError,
    ExchangeNotFoundError,
    InvalidMessageError,
    NackedError,
    PublisherClosedError,
    PublishRefusedError,
    PublishTimeoutError,
    TopologyError,
    UnroutableError,
)

CONFIRMED = "confirmed"
FAILED = "failed"
"""By an error that is none of the others, a defect say."""

_OF_ERRORS: tuple[tuple[type[BaseException], str], ...] = (
    (UnroutableError, "unroutable"),
    (ExchangeNotFoundError, "exchange_not_found"),
    (TopologyError, "exchange_mismatch"),
    (PublishRefusedError, "refused"),
    (NackedError, "nacked"),
    (BlockedError, "blocked"),
    (PublishTimeoutError, "timeout"),
    (ConnectionLostError, "connection_lost"),
    (ConnectError, "connection_lost"),
    (PublisherClosedError, "closed"),
    (InvalidMessageError, "invalid"),
    (asyncio.CancelledError, "cancelled"),
)

RESULTS = (CONFIRMED, *dict.fromkeys(result for _, result in _OF_ERRORS), FAILED)
"""All results."""


def result_of(error: BaseException | None) -> str:
    """Return the result of a publish that raised this; None: it was confirmed."""
    if error is None:
        return CONFIRMED
    return next((result for kind, result in _OF_ERRORS if isinstance(error, kind)), FAILED)
