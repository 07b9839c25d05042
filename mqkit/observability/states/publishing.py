"""Publishes how this process is, every two seconds and as it ends; nothing else waits for it."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable

from mqkit.broker.connection import Connection
from mqkit.broker.declare import CONNECTION_FORCED, NOT_FOUND
from mqkit.broker.states import STATES, states_channel
from mqkit.clock import Clock, monotonic, utc_now
from mqkit.drivers.base import DriverChannel
from mqkit.errors import ChannelClosedError, TopologyError
from mqkit.logging.error_reports import REPORTS, ErrorReports
from mqkit.message import Message, Properties
from mqkit.middleware import ServiceReading
from mqkit.observability.states.state import MAX_STATE, State, encode
from mqkit.observability.states.tally import Tally
from mqkit.observability.states.telling import Identity, state_of
from mqkit.system.machine import MACHINE, Machine

logger = logging.getLogger(__name__)

STATES_EVERY = 2.0
"""Seconds between two states of a process."""

AFTER_REFUSAL = 60.0
"""Seconds until it is tried again where the broker has refused it: each refusal costs a channel,
and is a line in the broker's log."""

DECLARE_WITHIN = 10.0
"""Seconds that the broker has to answer a declaration."""

ID_BYTES = 8


def state_message(state: State) -> Message:
    """Make the message that a state is: transient, not mandatory, gone after three intervals."""
    properties = Properties(
        content_type="application/json",
        persistent=False,
        expiration=3 * state.every,
        app_id=state.service,
        type="mqkit.state",
    )
    return Message(STATES, "", encode(state), properties, mandatory=False)


class StatePublisher:
    """Says how this process is, on the connection that publishes, until it is cancelled.

    It waits for no confirm, and writes nothing while the broker blocks publishers or while there is
    no connection: what could not be said is not said later. It raises nothing.
    """

    def __init__(
        self,
        connection: Connection,
        tally: Tally,
        read: Callable[[], ServiceReading],
        *,
        every: float = STATES_EVERY,
        clock: Clock = utc_now,
        machine: Machine = MACHINE,
        reports: ErrorReports = REPORTS,
    ) -> None:
        """Publish nothing yet.

        :param read: says how the service is
        """
        self._connection = connection
        self._tally = tally
        self._read = read
        self._every = every
        self._clock = clock
        self._reports = reports
        self._began = monotonic()
        self._identity = Identity.of_this_process(machine.random_bytes(ID_BYTES), clock())
        self._channel: DriverChannel | None = None
        self._not_before = -math.inf
        self._is_told = False

    async def run(self) -> None:
        """Publish a state again and again, until cancelled."""
        while True:
            try:
                await self._publish()
            except ChannelClosedError as error:
                self._on_closed(error)
            except TopologyError as error:
                self._refused(str(error))
            except TimeoutError:
                logger.debug("the broker does not answer: no state was published")
            except Exception as error:  # noqa: BLE001 - the service goes on, whatever it is
                self._failed(error)
            await asyncio.sleep(self._every)

    async def end(self) -> None:
        """Publish that the process ends, if that needs no waiting, and no more after it."""
        channel, self._channel = self._channel, None
        if channel is None or not channel.is_open or self._connection.blocked is not None:
            return
        try:
            channel.publish(state_message(self._state(has_ended=True)))
        except ChannelClosedError as error:
            logger.debug("the last state was not published: %s", error)
        except Exception as error:  # noqa: BLE001 - the service ends as it would, whatever it is
            self._failed(error)

    async def _publish(self) -> None:
        if monotonic() < self._not_before or self._connection.blocked is not None:
            return
        channel = self._channel
        if channel is not None and not channel.is_open:
            self._channel = None
            if channel.closed.done():
                why = channel.closed.result()
                if why.code not in (0, NOT_FOUND, CONNECTION_FORCED):
                    raise why.error()
        if self._channel is None:
            async with asyncio.timeout(DECLARE_WITHIN):
                self._channel = await states_channel(self._connection.channel)
        message = state_message(self._state())
        if len(message.body) > MAX_STATE:
            self._refused(f"it has {len(message.body)} bytes, and {MAX_STATE} at most can be read")
            return
        self._channel.publish(message)

    def _state(self, *, has_ended: bool = False) -> State:
        return state_of(
            self._read(),
            self._tally,
            self._identity,
            at=self._clock(),
            up=monotonic() - self._began,
            every=self._every,
            server=self._connection.server,
            has_ended=has_ended,
        )

    def _on_closed(self, error: ChannelClosedError) -> None:
        self._channel = None
        if error.code in (0, CONNECTION_FORCED):
            logger.debug("no state was published: %s", error)
        else:
            self._refused(str(error))

    def _refused(self, why: str) -> None:
        self._not_before = monotonic() + AFTER_REFUSAL
        logger.log(
            self._level(logging.WARNING),
            "this process is not seen by `mqkit top` and the console, for its state cannot be "
            "published to exchange %s: %s; `mqkit topology permissions` prints what its user must "
            "be allowed, `mqkit topology apply --ladder` declares the exchange, and `mqkit run "
            "--no-states` does without",
            STATES,
            why,
        )

    def _failed(self, error: Exception) -> None:
        self._not_before = monotonic() + AFTER_REFUSAL
        text, level = "publishing this process's state failed", self._level(logging.ERROR)
        self._reports.log(logger, level, text, error=error)

    def _level(self, first: int) -> int:
        """Return a level for the first log line, and debug for all others."""
        level = logging.DEBUG if self._is_told else first
        self._is_told = True
        return level
