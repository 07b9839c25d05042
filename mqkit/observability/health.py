"""Says whether a service consumes, and what keeps it from that, for a person and for a probe."""

from __future__ import annotations

from mqkit.middleware import ServiceReading
from mqkit.pause import Status


def problems_of(reading: ServiceReading | None) -> tuple[str, ...]:
    """Return what keeps a service from consuming all its queues, a line each; () is ready.

    Nothing of a message, a URL or the text of an error is in it.
    """
    if reading is None or not (reading.is_started or reading.is_stopping):
        return ("starting: it has not connected and declared yet", *_of_connections(reading))
    if reading.is_stopping:
        return ("stopping: it takes no more messages",)
    return (*_of_connections(reading), *_of_consumers(reading), *_of_store(reading))


def _of_connections(reading: ServiceReading | None) -> list[str]:
    connections = () if reading is None else reading.connections
    return [
        f"connection {each.name}: not connected to the broker"
        for each in connections
        if not each.is_up
    ]


def _of_consumers(reading: ServiceReading) -> list[str]:
    problems = []
    for each in reading.consumers:
        state = each.state
        if state.status is not Status.CONSUMING:
            because = f": {state.because}" if state.because else ""
            problems.append(f"queue {each.consumed}: {state.status}{because}")
        elif state.because:  # it may get nothing
            problems.append(f"queue {each.consumed}: not bound: {state.because}")
    return problems


def _of_store(reading: ServiceReading) -> list[str]:
    if reading.has_store and reading.store is None:
        return ["store: it does not answer"]
    return []
