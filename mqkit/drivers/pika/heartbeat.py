"""Heartbeats on pika's connections, which notice a broker's silence as soon as aio-pika's do.

And whether it is a broker at all.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from pika import exceptions, frame

from mqkit.drivers import common as wire
from mqkit.drivers import refusals

FRAME_HEADER = 7
"""Octets of a frame's type, channel and size (AMQP 0-9-1, section 4.2.3)."""


class Heartbeats:
    """Stands in the place of pika's `HeartbeatChecker`: sends heartbeats and expects octets.

    That one (1.4.4) looks once in each heartbeat and five seconds, so that a silence may last twice
    as long; and it counts whole frames, so that a large one on a slow network is taken for silence.
    """

    def __init__(
        self,
        connection: HeartbeatConnection,
        heartbeat: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connection: Any = connection
        self._send_each = heartbeat / 2
        self._silence = wire.Silence(heartbeat, clock)
        self._sending = self._later(self._send_each, self._send)
        self._looking = self._later(self._silence.left, self._look)

    def octets(self, count: int) -> None:
        """Be told that the broker sent something, a whole frame or less."""
        self._silence.end(count)

    def frames(self, *, some: bool, rest: bool) -> None:
        """Be told whether this was the end of some frames, and the beginning of one more."""
        if some or not rest:
            self._silence.frame(whole=True)
        if rest:
            self._silence.frame(whole=False)

    def received(self) -> None:
        """Called by pika at each heartbeat of the broker, which is octets as any other frame."""

    def stop(self) -> None:
        """Called by pika when the connection closes."""
        for timer in (self._sending, self._looking):
            self._connection._adapter_remove_timeout(timer)  # noqa: SLF001

    def _send(self) -> None:
        # First, since a connection that breaks while it writes stops its timers.
        self._sending = self._later(self._send_each, self._send)
        self._connection._send_frame(frame.Heartbeat())  # noqa: SLF001

    def _look(self) -> None:
        left = self._silence.left
        if left > 0:
            self._looking = self._later(left, self._look)
        else:
            self._connection._terminate_stream(  # noqa: SLF001 - as pika's checker does
                exceptions.AMQPHeartbeatTimeout(self._silence.why)
            )

    def _later(self, seconds: float, call: Any) -> Any:
        return self._connection._adapter_call_later(seconds, call)  # noqa: SLF001


class HeartbeatConnection:
    """What a class of pika's connections inherits from, before pika's own, to have `Heartbeats`."""

    params: Any
    connection_state: int
    CONNECTION_PROTOCOL: int
    bytes_received: int
    _frame_buffer: bytes
    _body_max_length: int
    _heartbeat_checker: Heartbeats | None

    def _create_heartbeat_checker(self) -> Heartbeats:
        return Heartbeats(self, self.params.heartbeat)

    def _on_data_available(self, data: bytes) -> None:
        is_first = self.connection_state == self.CONNECTION_PROTOCOL
        if is_first and (problem := refusals.stranger(bytes(self._frame_buffer or data))):
            # pika would take a stranger's words for a frame's length, and wait for the rest.
            raise exceptions.IncompatibleProtocolError(problem)
        if self._heartbeat_checker is not None:
            self._heartbeat_checker.octets(len(data))
        before = self.bytes_received
        super()._on_data_available(data)  # type: ignore[misc]
        rest = self._frame_buffer
        if self._heartbeat_checker is not None:
            self._heartbeat_checker.frames(some=self.bytes_received > before, rest=bool(rest))
            if len(rest) >= FRAME_HEADER and _size(rest) > self._body_max_length:
                raise exceptions.InvalidFrameError("a frame is larger than was agreed on")


def _size(frame_begun: bytes) -> int:
    return int.from_bytes(frame_begun[3:FRAME_HEADER], "big")
