"""The broker's errors: AMQP reply codes, and the texts that RabbitMQ sends with them.

Codes are those of the AMQP 0-9-1 specification, section 1.1 "constants". A *soft* error closes
the channel that it happened on, a *hard* one the whole connection.
"""

from __future__ import annotations

NAMES = {
    312: "NO_ROUTE",
    320: "CONNECTION_FORCED",
    403: "ACCESS_REFUSED",
    404: "NOT_FOUND",
    405: "RESOURCE_LOCKED",
    406: "PRECONDITION_FAILED",
    501: "FRAME_ERROR",
    502: "SYNTAX_ERROR",
    503: "COMMAND_INVALID",
    504: "CHANNEL_ERROR",
    505: "UNEXPECTED_FRAME",
    506: "RESOURCE_ERROR",
    530: "NOT_ALLOWED",
    540: "NOT_IMPLEMENTED",
    541: "INTERNAL_ERROR",
}

SOFT = frozenset({403, 404, 405, 406})
"""Codes that close the channel; all others close the connection."""

MAX_TEXT = 255
"""Bytes that a reply text may have: it is a short string."""


class EmbeddedBrokerError(Exception):
    """The root of this package's errors."""


class ReplyError(EmbeddedBrokerError):
    """An error that the client is told by `channel.close` or `connection.close`."""

    def __init__(
        self, code: int, text: str, *, hard: bool | None = None, about: tuple[int, int] = (0, 0)
    ) -> None:
        super().__init__(f"{NAMES[code]} - {text}")
        self.code = code
        self.about = about
        """The class and the method that it came of, where what was read tells no more."""
        self.hard = code not in SOFT if hard is None else hard

    @property
    def text(self) -> str:
        """The reply text, no longer than a short string can be."""
        return str(self).encode(errors="replace")[:MAX_TEXT].decode(errors="ignore")


class HandshakeError(EmbeddedBrokerError):
    """The peer broke the protocol before it was let in: it is dropped without an explanation."""


class DataError(EmbeddedBrokerError):
    """The data directory cannot be used; the message says why, and what to do."""


def access_refused(text: str, *, hard: bool | None = None) -> ReplyError:
    """Make a 403: no permission, a reserved name, or another one's exclusive right."""
    return ReplyError(403, text, hard=hard)


def not_found(text: str) -> ReplyError:
    """Make a 404: what was named is not there."""
    return ReplyError(404, text)


def resource_locked(text: str) -> ReplyError:
    """Make a 405: another connection has it exclusively."""
    return ReplyError(405, text)


def precondition_failed(text: str) -> ReplyError:
    """Make a 406: it is there, but otherwise than asked for."""
    return ReplyError(406, text)


def not_allowed(text: str) -> ReplyError:
    """Make a 530: it is not allowed in this state."""
    return ReplyError(530, text)


def not_implemented(text: str) -> ReplyError:
    """Make a 540: this broker does not do it."""
    return ReplyError(540, text)


def unexpected_content() -> ReplyError:
    """Make a 505: content that no method announced."""
    return ReplyError(505, "expected method frame, got non method frame instead")
