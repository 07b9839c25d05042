"""Lets a service say how its process is while it runs, if it is to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from mqkit.broker.connection import Connection
from mqkit.checks import checked
from mqkit.clock import Clock
from mqkit.lifecycle.closing import Step
from mqkit.logging.error_reports import ErrorReports
from mqkit.middleware import Observer, ServiceReading
from mqkit.observability.states import publishing
from mqkit.observability.states.publishing import StatePublisher
from mqkit.observability.states.tally import Tally
from mqkit.system.machine import Machine


class Saying:
    """Counts what a service does and publishes its process's states, or does nothing at all."""

    def __init__(
        self,
        states: bool,
        observers: tuple[Observer, ...],
        *,
        clock: Clock,
        machine: Machine,
        reports: ErrorReports,
    ) -> None:
        """Publish nothing yet.

        :raises OptionError: `states` is no flag
        """
        self._clock, self._machine, self._reports = clock, machine, reports
        self._tally: Tally | None = None
        self.observers = observers
        """Those that were given, and what counts for the states."""
        self._publisher: StatePublisher | None = None
        if checked.flag(states, "Runtime(states=...)"):
            # One that counts already, for a supervisor, counts for both.
            self._tally = next((each for each in observers if isinstance(each, Tally)), None)
            if self._tally is None:
                self._tally = Tally()
                self.observers = (*observers, self._tally)

    @property
    def needs_readings(self) -> bool:
        """Whether it tells how the store is, which has to be looked at for it."""
        return self._tally is not None

    def start(
        self, connection: Connection, read: Callable[[], ServiceReading]
    ) -> list[asyncio.Task[None]]:
        """Publish from now on, in a task that ends when it is cancelled; none where not asked."""
        if self._tally is None:
            return []
        self._publisher = StatePublisher(
            connection,
            self._tally,
            read,
            every=publishing.STATES_EVERY,
            clock=self._clock,
            machine=self._machine,
            reports=self._reports,
        )
        return [asyncio.create_task(self._publisher.run(), name="mqkit states")]

    def closing(self) -> list[Step]:
        """Return the step that says that the process ends."""
        return [] if self._publisher is None else [("what it says of itself", self._publisher.end)]
