"""Sends heartbeats on pika's connections, and ends them when the broker is silent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pika import exceptions, frame

from mqkit.clock import loop_clock
from mqkit.drivers.heartbeat import HeartbeatMonitor


class Heartbeats:
    """Sends heartbeats and watches for octets, in the place of pika's `HeartbeatChecker`.

    That one (1.4.4) looks once in each heartbeat and five seconds, so that a silence may last twice
    as long; and it counts whole frames, so that a large one on a slow network is taken for silence.
    """

    def __init__(
        self,
        connection: Any,
        heartbeat: float,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._connection = connection
        self._send_each = heartbeat / 2
        self._monitor = HeartbeatMonitor(heartbeat, clock or loop_clock())
        self._sending = self._later(self._send_each, self._send)
        self._looking = self._later(self._monitor.left, self._look)

    def octets(self, count: int) -> None:
        """Note that the broker sent octets, a whole frame or less."""
        self._monitor.received(count)

    def frames(self, *, some: bool, rest: bool) -> None:
        """Note whether some frames became whole, and whether one more has begun."""
        if some or not rest:
            self._monitor.frame_state(whole=True)
        if rest:
            self._monitor.frame_state(whole=False)

    def received(self) -> None:
        """Do nothing; called by pika at each heartbeat, whose octets are counted already."""

    def stop(self) -> None:
        """Stop the timers; called by pika when the connection closes."""
        for timer in (self._sending, self._looking):
            self._connection._adapter_remove_timeout(timer)  # noqa: SLF001

    def _send(self) -> None:
        # First, since a connection that breaks while it writes stops its timers.
        self._sending = self._later(self._send_each, self._send)
        self._connection._send_frame(frame.Heartbeat())  # noqa: SLF001

    def _look(self) -> None:
        left = self._monitor.left
        if left > 0:
            self._looking = self._later(left, self._look)
        else:
            self._connection._terminate_stream(  # noqa: SLF001 - as pika's checker does
                exceptions.AMQPHeartbeatTimeout(self._monitor.why)
            )

    def _later(self, seconds: float, call: Any) -> Any:
        return self._connection._adapter_call_later(seconds, call)  # noqa: SLF001
