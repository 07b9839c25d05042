"""The broker's side of a connection, played by a case: for what no broker does when asked."""

from __future__ import annotations

from typing import Any

from pamqp import base, commands, frame
from pamqp.body import ContentBody
from pamqp.header import ContentHeader

from mqkit.testing.brokers.probe import PROTOCOL_HEADER
from tests.conformance.suite.peer import Peer

FRAME_MAX = 131072
HEARTBEAT = 60
"""What it proposes: bytes, seconds."""

SERVER_PROPERTIES: dict[str, Any] = {
    "product": "Scripted",
    "version": "1.2.3",
    "capabilities": {
        "authentication_failure_close": True,
        "basic.nack": True,
        "connection.blocked": True,
        "consumer_cancel_notify": True,
        "publisher_confirms": True,
    },
}


class ScriptedBroker(Peer):
    """One connection that a driver opened to it; what it says is the case's to write."""

    start_ok = commands.Connection.StartOk()
    tune_ok = commands.Connection.TuneOk()
    """What the driver answered; set by `serve_open`."""

    async def serve_open(self) -> None:
        """Let the driver log in and open any virtual host."""
        hello = await self.receive_bytes(len(PROTOCOL_HEADER))
        assert hello == PROTOCOL_HEADER, f"said {hello!r}"
        await self.send(commands.Connection.Start(server_properties=SERVER_PROPERTIES))
        self.start_ok = await self.expect(commands.Connection.StartOk)
        await self.send(
            commands.Connection.Tune(channel_max=2047, frame_max=FRAME_MAX, heartbeat=HEARTBEAT)
        )
        self.tune_ok = await self.expect(commands.Connection.TuneOk)
        await self.expect(commands.Connection.Open)
        await self.send(commands.Connection.OpenOk())

    async def answers(self, kind: type[base.Frame], answer: base.Frame, channel: int = 1) -> Any:
        """Claim that the next frame is of a kind, answer it, and return it."""
        call = await self.expect(kind, channel)
        await self.send(answer, channel)
        return call

    async def serve_channel(self) -> None:
        """Let the driver open its first channel."""
        await self.answers(commands.Channel.Open, commands.Channel.OpenOk())


def delivery(consumer_tag: str, tag: int, body: bytes, channel: int = 1) -> bytes:
    """Make the frames of a `basic.deliver` from the default exchange, with a body."""
    frames = (
        commands.Basic.Deliver(consumer_tag, tag, False, "", "q"),
        ContentHeader(0, len(body), commands.Basic.Properties()),
        ContentBody(body),
    )
    return b"".join(frame.marshal(each, channel) for each in frames)
