"""A connection of pika's without a socket, on a clock of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pika.frame import Heartbeat

from mqkit.drivers.pika.heartbeat import Heartbeats
from mqkit.drivers.pika.mixin import ConnectionMixin


class FakePika:
    """What of a pika connection the heartbeats use, in virtual time."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[tuple[float, Callable[[], None]]] = []
        self.sent: list[float] = []
        self.ended: list[tuple[float, BaseException]] = []
        self.data: list[bytes] = []
        self.bytes_received = 0
        self.whole = False
        self._frame_buffer = b""
        self._body_max_length = 131_064
        self.connection_state, self.CONNECTION_PROTOCOL = 1, 0

    def clock(self) -> float:
        return self.now

    def _adapter_call_later(self, seconds: float, call: Callable[[], None]) -> object:
        timer = (self.now + seconds, call)
        self.timers.append(timer)
        return timer

    def _adapter_remove_timeout(self, timer: Any) -> None:
        if timer in self.timers:
            self.timers.remove(timer)

    def _send_frame(self, frame: object) -> None:
        assert isinstance(frame, Heartbeat)
        self.sent.append(self.now)

    def _terminate_stream(self, error: BaseException) -> None:
        self.ended.append((self.now, error))

    def _on_data_available(self, data: bytes) -> None:
        self.data.append(data)
        if self.whole:
            self.bytes_received += len(data)
        else:
            self._frame_buffer += data

    def run_until(self, end: float) -> None:
        """Let time pass."""
        while self.timers and (first := min(self.timers, key=lambda timer: timer[0]))[0] <= end:
            self.timers.remove(first)
            self.now = first[0]
            first[1]()
        self.now = end


class Watched(ConnectionMixin, FakePika):
    """As the classes of the drivers are made."""

    def __init__(self, heartbeat: float) -> None:
        FakePika.__init__(self)
        self._heartbeat_checker = None
        self._heartbeat_checker = Heartbeats(self, heartbeat, self.clock)
