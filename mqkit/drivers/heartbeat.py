"""Tells when a broker that sends nothing, or no whole frame, counts as gone."""

from __future__ import annotations

from collections.abc import Callable

SILENCE = 2.5
"""Heartbeats; a broker that sends nothing for so long is gone.

RabbitMQ sends a heartbeat where it sent nothing else for half of one to a whole one
(https://www.rabbitmq.com/docs/heartbeats), so that one and a half are left for a network that slows
down. It gives up a silent client after two to three.
"""

FRAME_TIME = 3.0
"""Heartbeats that a frame may take to come in whole, and longer by what has come of it."""

FRAME_RATE = 400
"""Octets in a second that a frame must come at for longer than that.

Where the size in a frame's header is garbled, its rest never comes, while each heartbeat adds eight
octets to what is taken for it.
"""

SILENT = "the broker sent nothing for longer than the heartbeat allows"
"""Why a connection closed whose broker does not even send heartbeats."""

GARBLED = "what the broker sent has not become a whole frame, as if its size were wrong"
"""Why a connection closed on which octets came, and no frame."""


class HeartbeatMonitor:
    """Measures how long the broker of a connection may still be silent.

    Any octets end a silence, but a frame that has begun must become whole in time.
    """

    def __init__(self, heartbeat: float, clock: Callable[[], float]) -> None:
        self._limit = SILENCE * heartbeat
        self._frame_limit = FRAME_TIME * heartbeat
        self._clock = clock
        self._began = clock()
        self._frame_began: float | None = None
        self._frame_octets = 0

    def received(self, octets: int = 1) -> None:
        """Note that the broker sent octets."""
        self._began = self._clock()
        self._frame_octets += octets

    def frame_state(self, *, whole: bool) -> None:
        """Note whether all frames are whole, or the last one still lacks a part."""
        if whole:
            self._frame_began = None
        elif self._frame_began is None:
            self._frame_began, self._frame_octets = self._clock(), 0

    @property
    def left(self) -> float:
        """Seconds until the broker counts as gone; it does at 0 or less."""
        return min(self._began + self._limit, self._frame_end) - self._clock()

    @property
    def why(self) -> str:
        """Why the connection is lost, once nothing is left."""
        return SILENT if self._began + self._limit <= self._frame_end else GARBLED

    @property
    def _frame_end(self) -> float:
        if self._frame_began is None:
            return float("inf")
        return self._frame_began + self._frame_limit + self._frame_octets / FRAME_RATE
