"""What the drivers share: the values, texts and settings that are no client library's own."""

from __future__ import annotations

import logging
import os
import ssl
import sys
from collections.abc import Callable
from typing import Any

from mqkit.errors import (
    BrokerUrlError,
    HeadersTooLargeError,
    InvalidMessageError,
)
from mqkit.message import Message
from mqkit.settings import Tls

logger = logging.getLogger(__name__)

FRAME_OVERHEAD = 8
"""Bytes of a frame that are not its payload (AMQP 0-9-1, section 4.2.3)."""

CLOSE_TIMEOUT = 3.0
"""Seconds to wait for the broker's close-ok before the stream is dropped."""

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

INTERNAL_ERROR = 541
"""The reply code of a peer that fails (AMQP 0-9-1, section 1.2 "Constants")."""

DEFECT = "this side could not deal with a frame"
"""Why this side closes a channel after `defect`."""

BY_US = "Normal shutdown"
"""Why a connection or channel closed that this side closed."""


class Silence:
    """How long the broker may still say nothing, on a connection with such a heartbeat.

    Octets end a silence, be they a whole frame or not; but what is begun must become whole.
    """

    def __init__(self, heartbeat: float, clock: Callable[[], float]) -> None:
        self._limit = SILENCE * heartbeat
        self._frame_limit = FRAME_TIME * heartbeat
        self._clock = clock
        self._began = clock()
        self._frame_began: float | None = None
        self._frame_octets = 0

    def end(self, octets: int = 1) -> None:
        """Have heard the broker."""
        self._began = self._clock()
        self._frame_octets += octets

    def frame(self, *, whole: bool) -> None:
        """Be told that no frame lacks a part, or that one does, be it a new one or not."""
        if whole:
            self._frame_began = None
        elif self._frame_began is None:
            self._frame_began, self._frame_octets = self._clock(), 0

    @property
    def left(self) -> float:
        """Seconds until the broker counts as gone; 0 or less, and it does."""
        return min(self._began + self._limit, self._frame_end) - self._clock()

    @property
    def why(self) -> str:
        """What to say of a connection that nothing is left for."""
        return SILENT if self._began + self._limit <= self._frame_end else GARBLED

    @property
    def _frame_end(self) -> float:
        if self._frame_began is None:
            return float("inf")
        return self._frame_began + self._frame_limit + self._frame_octets / FRAME_RATE


def defect() -> None:
    """Log what was raised while a frame was dealt with, or by a callback that was told of it.

    The rule of all drivers: it must not rise into the client library, which would end the
    connection under all consumers. Whoever calls this closes the frame's channel, and no more.
    """
    logger.critical(
        "a channel is closed: a frame could not be dealt with", exc_info=sys.exception()
    )


def quiet(*loggers: str, level: int = logging.CRITICAL) -> None:
    """Keep a client library's own log to `level`, unless the application chose one for it.

    It logs the same failures that mqkit raises; and bodies, headers and tokens with them.
    """
    for name in loggers:
        logger = logging.getLogger(name)
        if logger.level == logging.NOTSET:
            logger.setLevel(level)


def tls_context(tls: Tls) -> ssl.SSLContext:
    """How to check the broker's certificate.

    :raises BrokerUrlError: the URL's TLS files cannot be used
    """
    try:
        context = ssl.create_default_context(cafile=tls.cafile)
        if tls.certfile:
            context.load_cert_chain(tls.certfile, tls.keyfile)
    except (OSError, ssl.SSLError) as error:
        raise BrokerUrlError(
            f"the TLS files of the broker URL cannot be used "
            f"(cafile={tls.cafile!r}, certfile={tls.certfile!r}, keyfile={tls.keyfile!r}): {error}"
        ) from error
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def unencodable(message: Message, error: BaseException) -> InvalidMessageError:
    """The error for a message that cannot be written."""
    return InvalidMessageError(
        f"message {message.properties.message_id} to exchange {message.exchange!r}: a header or "
        f"property cannot be encoded ({type(error).__name__}); headers take text, bytes, numbers, "
        "booleans, Decimal, datetime, None, and lists and dicts of those; names and short "
        "properties are 255 bytes at most"
    )


def too_large(message: Message, size: int, limit: int) -> HeadersTooLargeError:
    """The error for headers that do not fit a frame, as they must (AMQP 0-9-1, 4.2.6.1)."""
    return HeadersTooLargeError(
        f"message {message.properties.message_id} to exchange {message.exchange!r}: its "
        f"headers and properties take {size} bytes, and the broker takes {limit} at most "
        "(frame_max)",
        size=size,
        limit=limit,
    )


def root_text(error: BaseException) -> str:
    """The innermost reason: libraries wrap an OSError several times, and print all wrappers."""
    seen: Any = error
    for _ in range(8):
        inner = getattr(seen, "exceptions", None) or getattr(seen, "exception", None) or seen.args
        inner = inner[-1] if isinstance(inner, list | tuple) and inner else inner
        if not isinstance(inner, BaseException):
            break
        seen = inner
    if isinstance(seen, OSError) and seen.strerror:
        # asyncio writes 'Connect call failed' and the address where the system's word should be.
        is_system = type(seen).__module__ == "builtins" and seen.errno and seen.errno > 0
        return os.strerror(seen.errno) if is_system and seen.errno else seen.strerror
    return str(seen) or type(seen).__name__
