"""What mqkit changes in how pika's connections read."""

from __future__ import annotations

from typing import Any

from pika import exceptions

from mqkit.drivers import refusals
from mqkit.drivers.pika import convert
from mqkit.drivers.pika.heartbeat import Heartbeats

FRAME_HEADER = 7
"""Octets of a frame's type, channel and size (AMQP 0-9-1, section 4.2.3)."""


class ConnectionMixin:
    """Changes how a connection of pika's reads; to be inherited from before pika's own class.

    The peer's first bytes are checked, heartbeats are mqkit's `Heartbeats`, a frame over
    `frame_max` ends the connection, and content headers are decoded by mqkit.
    """

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

    def _read_frame(self) -> tuple[int, Any]:
        found = convert.header_frame(bytes(self._frame_buffer))
        return found or super()._read_frame()  # type: ignore[misc]


def _size(frame_begun: bytes) -> int:
    return int.from_bytes(frame_begun[3:FRAME_HEADER], "big")
