"""pika's connection for asyncio, mended (1.4.4) where it fails in ways that nobody hears of."""

from __future__ import annotations

from typing import Any

from pika.adapters.asyncio_connection import AsyncioConnection

from mqkit.drivers.pika import convert as pika_wire
from mqkit.drivers.pika.heartbeat import HeartbeatConnection


class MendedConnection(HeartbeatConnection, AsyncioConnection):  # type: ignore[misc]
    """An attempt may be given up, and content headers are read by mqkit."""

    _is_unlinked = False

    def abandon(self) -> None:
        """Give up the attempt to connect; its stream ends, also where it is only on its way."""
        self._is_unlinked = self._transport is None
        if not (self.is_closed or self.is_closing):
            self.close()

    def _proto_connection_made(self, transport: Any) -> None:
        if self._is_unlinked:
            # pika has ended the attempt, and goes on with its stream as if it had not.
            transport.abort()
        else:
            super()._proto_connection_made(transport)

    def _proto_connection_lost(self, error: BaseException | None) -> None:
        if not self._is_unlinked:
            super()._proto_connection_lost(error)

    def _on_connection_workflow_done(self, result: Any) -> None:
        # pika reports an attempt that was aborted by a class, and then fails an assertion, with
        # a traceback in the log, because that is no exception.
        super()._on_connection_workflow_done(result() if isinstance(result, type) else result)

    def _read_frame(self) -> tuple[int, Any]:
        return pika_wire.header_frame(bytes(self._frame_buffer)) or super()._read_frame()
