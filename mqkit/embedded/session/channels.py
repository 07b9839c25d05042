"""The channels of one connection: opens and closes them, and gives each its frames."""

from __future__ import annotations

from collections.abc import Iterator

from pamqp import commands

from mqkit.embedded.errors import ReplyError, not_allowed, unexpected_content
from mqkit.embedded.session import basic, declare, tx
from mqkit.embedded.session.channel import Channel, Handler, Session
from mqkit.embedded.wire import frames
from mqkit.embedded.wire.frames import Method

METHODS: dict[type, Handler] = {**declare.HANDLERS, **basic.HANDLERS, **tx.HANDLERS}
"""What each method of a channel does."""


class Channels:
    """The channels, by number, that are open or that wait for the client's close-ok."""

    def __init__(self, connection: Session, limit: int) -> None:
        self.limit = limit
        """How many may be open at a time, as RabbitMQ understands channel_max."""
        self._connection = connection
        self._channels: dict[int, Channel] = {}

    def __len__(self) -> int:
        return len(self._channels)

    def __iter__(self) -> Iterator[Channel]:
        """Return those that are there now; they may go meanwhile."""
        return iter(list(self._channels.values()))

    def receive(self, number: int, frame: frames.Frame) -> None:
        """Give a frame to its channel.

        :raises ReplyError: a hard error, about the method that it came of
        """
        channel = self._channels.get(number)
        about = frames.ids(frame) if isinstance(frame, Method) else (0, 0)
        if channel is not None:
            about = channel.about or about
        try:
            self._receive(number, channel, frame)
        except ReplyError as error:
            error.about = about
            raise

    def release(self) -> None:
        """Close all channels, without telling the client."""
        for number, channel in list(self._channels.items()):
            del self._channels[number]
            channel.release()

    def _receive(self, number: int, channel: Channel | None, frame: frames.Frame) -> None:
        if isinstance(frame, commands.Channel.Open):
            self._open(number, channel)
        elif channel is None:
            if not isinstance(frame, Method):
                raise unexpected_content()
            raise ReplyError(504, "expected 'channel.open'")
        elif isinstance(frame, commands.Channel.Close):
            # Where both close it, it is closed when the client has answered, too.
            if not channel.is_closing:
                del self._channels[number]
                channel.release()
            self._send(number, commands.Channel.CloseOk())
        elif isinstance(frame, commands.Channel.CloseOk):
            if channel.is_closing:
                del self._channels[number]
        else:
            channel.receive(frame)

    def _open(self, number: int, channel: Channel | None) -> None:
        if channel is not None:
            raise ReplyError(504, "second 'channel.open' seen")
        if len(self._channels) >= self.limit:
            raise not_allowed(
                f"number of channels opened ({len(self._channels)}) has reached the negotiated "
                f"channel_max ({self.limit})"
            )
        vhost = self._connection.vhost
        assert vhost is not None
        self._channels[number] = Channel(number, self._connection, vhost, METHODS)
        self._send(number, frames.ChannelOpenOk())

    def _send(self, number: int, method: Method) -> None:
        self._connection.write(frames.method(number, method))
