"""A client's connection, without its socket: bytes come in by `receive`, and go out by `output`.

Theory of operation. A connection is in one state; `TABLE` says which methods of channel 0 may
come in which state and what is done then, and what is not in it is an error:

    HEADER --protocol header--> STARTING --start-ok--> TUNING --tune-ok--> OPENING --open--> OPEN
    OPEN --an error of the peer's--> CLOSING --close-ok--> CLOSED
    any --connection.close--> LEAVING --close-ok, or the peer's end--> CLOSED
    any --an error before OPENING--> CLOSED

Frames of other channels are taken in OPEN only. In CLOSING everything but close-ok is dropped, and
in LEAVING, too: `connection.close` was answered, and what the peer has still sent is read, since
to end a stream with something unread in it makes a reset, in which the answer gets lost. CLOSED
means: write what is left, then end the stream. (AMQP 0-9-1, sections 2.2.4 and 4.10.)
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Callable
from typing import Any

from pamqp import commands, heartbeat

from mqkit.embedded.engine.node import Node
from mqkit.embedded.engine.users import User
from mqkit.embedded.engine.vhost import VirtualHost
from mqkit.embedded.errors import DataError, HandshakeError, ReplyError
from mqkit.embedded.session import handshake
from mqkit.embedded.session.channels import Channels
from mqkit.embedded.session.turns import Turn
from mqkit.embedded.wire import frames
from mqkit.embedded.wire.frames import PROTOCOL_HEADER, FrameReader, Method

logger = logging.getLogger(__name__)

OUTPUT_HIGH = 1024 * 1024
"""Bytes that may wait to be written before deliveries to this connection are held up."""

WRITE_COST = 512
"""Bytes that each write counts besides its own: many small ones take their time, too."""


class State(enum.Enum):
    """Where a connection is in its life."""

    HEADER = enum.auto()
    STARTING = enum.auto()
    TUNING = enum.auto()
    OPENING = enum.auto()
    OPEN = enum.auto()
    CLOSING = enum.auto()
    LEAVING = enum.auto()
    CLOSED = enum.auto()


class Connection:
    """One client; `on_output` is called when there is something to write, or to end."""

    def __init__(
        self,
        node: Node,
        *,
        on_output: Callable[[], None] = lambda: None,
        on_more: Callable[[], None] | None = None,
        turn: float | None = None,
        from_loopback: bool = True,
        name: str = "a client",
    ) -> None:
        """Wait for the peer's protocol header.

        :param on_more: called when there is more to do without anything new from the stream:
            `receive` no bytes, soon; by default that is done at once
        :param turn: seconds after which `receive` leaves what is left for another turn, so that
            others have theirs; None is no bound
        """
        self.node = node
        self.name = name
        self.state = State.HEADER
        self.frame_max = handshake.FRAME_MIN
        self.heartbeat = handshake.HEARTBEAT
        """Seconds, as agreed; 0 is none."""
        self.is_writable = True
        """False while the stream takes no more; the shell sets it, and calls `drained` after."""
        self.has_more = False
        """What was received has not all been done: nothing more is to be read until it is."""
        self._on_output = on_output
        self._on_more = on_more or (lambda: self.receive(b""))
        self.turn = Turn(turn, node.clock.unmoved)
        """What it may do at once; its work goes before further frames."""
        self._from_loopback = from_loopback
        self._reader = FrameReader(handshake.FRAME_MIN)
        self._output: list[bytes] = []
        self._waiting = 0
        self._channels = Channels(self, handshake.CHANNEL_MAX)
        self._capabilities: dict[str, Any] = {}
        self.client_properties: dict[str, Any] = {}
        self._user: User | None = None
        self.vhost: VirtualHost | None = None
        """What it opened; None before."""
        self.is_blocked = False
        """True while nothing more is read from it, because of an alarm."""
        self._held_up = False
        node.connections[self] = None

    @property
    def user(self) -> User:
        """Who logged in."""
        assert self._user is not None
        return self._user

    @property
    def is_closed(self) -> bool:
        """True once the stream is to be ended."""
        return self.state is State.CLOSED

    @property
    def is_open(self) -> bool:
        """True between open-ok and the end."""
        return self.state is State.OPEN

    def can(self, capability: str) -> bool:
        """Return True if the client said that it understands this extension."""
        return self._capabilities.get(capability) is True

    def can_take(self) -> bool:
        """Return True if deliveries may be written; if not, `drained` lets them go on."""
        if self.is_writable and self._waiting < OUTPUT_HIGH and self.state is State.OPEN:
            return True
        self._held_up = True
        return False

    def write(self, data: bytes) -> None:
        """Queue bytes for the stream."""
        if self.state is State.CLOSED:
            return
        if not self._output:
            self._on_output()
        self._output.append(data)
        self._waiting += len(data) + WRITE_COST

    def output(self) -> bytes:
        """Return all that is to be written; afterwards nothing is."""
        data = b"".join(self._output)
        self._output.clear()
        self._waiting = 0
        return data

    def drained(self) -> None:
        """Let deliveries that were held up go on: the stream takes more."""
        if not self._held_up:
            return
        self._held_up = False
        for channel in self._channels:
            channel.serve()

    def receive(self, data: bytes) -> None:
        """Take bytes of the client, and do what they say.

        :raises DataError: what was taken cannot be kept
        """
        if self.state is State.CLOSED:
            return
        self._reader.feed(data)
        self.has_more = False
        try:
            self._read()
        except HandshakeError as error:
            logger.info("%s: closing without a reply: %s", self.name, error)
            self._end()
        except ReplyError as error:
            self._fail(error, *error.about)
        except DataError:
            # The shell ends the broker: nothing that was taken here may be confirmed.
            raise
        except Exception:
            # A fault of this broker's own: the client must not wait for ever, and the fault must
            # be seen. Other connections go on.
            logger.exception("%s: internal error", self.name)
            self._fail(ReplyError(541, "see the broker's log"), 0, 0)
        self.node.settle()

    def lost(self) -> None:
        """End the connection after its stream: what was received is done, nothing is sent."""
        self.output()
        # What was taken of a peer that is gone is done.
        self.turn.finish()
        self._end()
        self.node.settle()

    def force_close(self, reason: str) -> None:
        """Close the connection with a 320 and a reason, as an operator does."""
        if self.state is State.OPEN:
            self._fail(ReplyError(320, reason), 0, 0)
        else:
            self._end()

    def unblock(self) -> None:
        """Read on: the alarm is over."""
        if self.is_blocked:
            self.is_blocked = False
            if self.can("connection.blocked"):
                self._send(commands.Connection.Unblocked())
            self._leave_for_later()

    def confirm_later(self) -> None:
        """Send the confirms of the channels once what they confirm is durable."""
        self.node.unconfirmed[self] = None

    def settle(self) -> None:
        """Make all that was done durable, then confirm it."""
        self.node.settle()

    def confirm(self) -> None:
        """Send the confirms of all channels; what they confirm is durable now."""
        for channel in self._channels:
            channel.confirm()

    def _read(self) -> None:
        """Take frames until the stream has no more, or the turn is over."""
        if self.state is State.HEADER and not self._read_header():
            return
        self.turn.begin()
        if not self.turn.worked():
            self._leave_for_later()
            return
        for number, frame in self._reader:
            self._frame(number, frame)
            if self.state is State.CLOSED:
                self._reader.clear()
                return
            if not self.turn.worked() or (self.turn.is_over and not self.is_blocked):
                self._leave_for_later()
                return
            if self.is_blocked:
                return

    def _leave_for_later(self) -> None:
        self.has_more = True
        self._on_more()

    def _read_header(self) -> bool:
        size = len(PROTOCOL_HEADER)
        start = self._reader.peek(size)
        if start == PROTOCOL_HEADER:
            self._reader.take(size)
            self.state = State.STARTING
            self._send(handshake.start())
            return True
        if len(start) < size and PROTOCOL_HEADER.startswith(start):
            return False
        # Say what would be understood, and close (AMQP 0-9-1, section 4.2.2).
        self.write(PROTOCOL_HEADER)
        raise HandshakeError("it does not begin with AMQP 0-9-1's protocol header")

    def _frame(self, number: int, frame: frames.Frame) -> None:
        if isinstance(frame, heartbeat.Heartbeat):
            return
        if self.state is State.LEAVING and isinstance(frame, commands.Connection.Close):
            self._send(commands.Connection.CloseOk())
            return
        if self.state in (State.CLOSING, State.LEAVING):
            if isinstance(frame, commands.Connection.CloseOk | commands.Connection.Close):
                self._end()
            return
        if number == 0:
            self._on_channel_0(frame)
        elif self.state is not State.OPEN:
            raise HandshakeError(f"a frame of channel {number} before the connection is open")
        else:
            self._on_channel(number, frame)

    def _on_channel_0(self, frame: frames.Frame) -> None:
        handler = TABLE[self.state].get(type(frame))
        if handler is None:
            what = frame.name if isinstance(frame, Method) else "content"
            if self.state is not State.OPEN:
                raise HandshakeError(f"{what} while {self.state.name.lower()}")
            if not isinstance(frame, Method):
                raise ReplyError(505, "content on channel 0")
            text = "unexpected method in connection state running"
            raise ReplyError(504, text, about=frames.ids(frame))
        try:
            handler(self, frame)
        except ReplyError as error:
            assert isinstance(frame, Method)
            # Who fails to log in is told no more than that.
            about = (0, 0) if self.state is State.STARTING else frames.ids(frame)
            self._fail(error, *about)

    def _on_channel(self, number: int, frame: frames.Frame) -> None:
        # Whoever publishes is read no further after a content header, or a part of a body, as in
        # RabbitMQ; a message without a body is taken, and the next one is not.
        blocks = not isinstance(frame, Method) and self.node.alarm is not None
        try:
            self._channels.receive(number, frame)
        except ReplyError as error:
            self._fail(error, *error.about)
        else:
            if blocks:
                self._block()

    def _block(self) -> None:
        self.is_blocked = True
        if self.can("connection.blocked"):
            self._send(commands.Connection.Blocked(self.node.alarm or ""))

    def _start_ok(self, method: commands.Connection.StartOk) -> None:
        self._capabilities = handshake.capabilities(method)
        self.client_properties = dict(method.client_properties or {})
        name = self.client_properties.get("connection_name")
        if isinstance(name, str):
            self.name = f"{self.name} ({name})"
        self._user = handshake.log_in(
            self.node.users,
            method,
            from_loopback=self._from_loopback,
            tell=self.can("authentication_failure_close"),
        )
        self.state = State.TUNING
        self._send(
            commands.Connection.Tune(
                handshake.CHANNEL_MAX, handshake.FRAME_MAX, handshake.HEARTBEAT
            )
        )

    def _tune_ok(self, method: commands.Connection.TuneOk) -> None:
        handshake.check_tuning(method)
        self.frame_max = self._reader.frame_max = method.frame_max
        self._channels.limit = method.channel_max
        self.heartbeat = method.heartbeat
        self.state = State.OPENING

    def _open(self, method: commands.Connection.Open) -> None:
        self.vhost = handshake.enter(self.node, self.user, method.virtual_host)
        self.state = State.OPEN
        self._send(commands.Connection.OpenOk())

    def _close(self, _: commands.Connection.Close) -> None:
        self._release()
        self._send(commands.Connection.CloseOk())
        self.state = State.LEAVING

    def _update_secret(self, _: commands.Connection.UpdateSecret) -> None:
        self._send(commands.Connection.UpdateSecretOk())

    def _send(self, method: Method) -> None:
        self.write(frames.method(0, method))

    def _fail(self, error: ReplyError, class_id: int, method_id: int) -> None:
        """Close by an error of the peer's; before it is let in, it is only dropped."""
        logger.info("%s: closing: %s", self.name, error)
        if self.state in (State.HEADER, State.STARTING) and error.code != 403:  # noqa: PLR2004
            self._end()
            return
        if self.state in (State.CLOSING, State.LEAVING, State.CLOSED):
            self._end()
            return
        self._release()
        self._send(commands.Connection.Close(error.code, error.text, class_id, method_id))
        self.state = State.CLOSING
        self.is_blocked = False

    def _release(self) -> None:
        self._channels.release()
        if self.vhost is not None:
            self.vhost.release(self)

    def _end(self) -> None:
        if self.state is not State.CLOSED:
            self._release()
            self.state = State.CLOSED
            self.node.connections.pop(self, None)
            self.node.unconfirmed.pop(self, None)
            self._on_output()


TABLE: dict[State, dict[type, Callable[[Connection, Any], None]]] = {
    State.HEADER: {},
    State.STARTING: {
        commands.Connection.StartOk: Connection._start_ok,  # noqa: SLF001 - its own table
        commands.Connection.Close: Connection._close,  # noqa: SLF001
    },
    State.TUNING: {
        commands.Connection.TuneOk: Connection._tune_ok,  # noqa: SLF001
        commands.Connection.Close: Connection._close,  # noqa: SLF001
    },
    State.OPENING: {
        commands.Connection.Open: Connection._open,  # noqa: SLF001
        commands.Connection.Close: Connection._close,  # noqa: SLF001
    },
    State.OPEN: {
        commands.Connection.Close: Connection._close,  # noqa: SLF001
        commands.Connection.UpdateSecret: Connection._update_secret,  # noqa: SLF001
    },
}
"""What channel 0 takes, by state."""
