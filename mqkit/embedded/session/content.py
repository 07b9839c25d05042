"""A message that a client publishes, put together from its header and body frames.

AMQP 0-9-1, section 4.2.6
"""

from __future__ import annotations

from typing import NoReturn

from pamqp import body, commands

from mqkit.embedded.errors import ReplyError, precondition_failed
from mqkit.embedded.wire.frames import ReceivedHeader

MAX_BODY = 16 * 1024 * 1024
"""Bytes; RabbitMQ's own default since 4.0 (`max_message_size`)."""

MAX_BODY_EVER = 512 * 1024 * 1024
"""Bytes; a header that announces more closes the connection (RabbitMQ 4.3)."""

Published = tuple[commands.Basic.Publish, ReceivedHeader, bytes]
"""A whole message as it was published: the method, the content header and the body."""


class Content:
    """A message of which not all frames have come."""

    __slots__ = ("_header", "_missing", "_parts", "method")

    def __init__(self, method: commands.Basic.Publish) -> None:
        self.method = method
        self._header: ReceivedHeader | None = None
        self._parts: list[bytes] = []
        self._missing = 0

    def take_header(self, header: ReceivedHeader) -> bool:
        """Take the content header; True if the message is whole.

        :raises ReplyError: 501 or 505, it cannot be this message's
        """
        if self._header is not None:
            self._expected("body")
        if header.content_class != commands.Basic.frame_id:
            raise ReplyError(
                505,
                f"expected content header for class 60, got one for class "
                f"{header.content_class} instead",
            )
        if header.weight:
            self._expected("header")
        if header.body_size > MAX_BODY_EVER:
            raise ReplyError(
                501,
                f"content body size {header.body_size} exceeds maximum allowed size "
                f"{MAX_BODY_EVER}",
            )
        self._header = header
        self._missing = header.body_size
        return not self._missing

    def take_body(self, part: body.ContentBody) -> bool:
        """Take a part of the body; True if the message is whole.

        :raises ReplyError: 501 or 505, it cannot be this message's
        """
        if self._header is None:
            self._expected("header")
        if self._header.body_size <= MAX_BODY:
            self._parts.append(part.value)
        self._missing -= len(part.value)
        if self._missing < 0:
            raise ReplyError(501, "content body frame exceeds remaining content size")
        return not self._missing

    def whole(self) -> Published:
        """Put the message together.

        :raises ReplyError: 406, it is too large
        """
        header = self._header
        assert header is not None
        if header.body_size > MAX_BODY:
            # Only now, as RabbitMQ: a client that is told sooner has not sent all of it yet.
            raise precondition_failed(
                f"message size {header.body_size} is larger than configured max size {MAX_BODY}"
            )
        return self.method, header, b"".join(self._parts)

    def refuse_method(self) -> NoReturn:
        """Refuse a method that came before the message was whole.

        :raises ReplyError: 505
        """
        self._expected("header" if self._header is None else "body")

    @staticmethod
    def _expected(what: str) -> NoReturn:
        # What came instead does not matter to RabbitMQ either.
        of_class = " for class 60" if what == "header" else ""
        raise ReplyError(
            505, f"expected content {what}{of_class}, got non content {what} frame instead"
        )
