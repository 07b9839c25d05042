"""Every error that mqkit raises, under one root: what happened, to what, and what to do."""

from __future__ import annotations

from typing import ClassVar

from mqkit.logging.shown import shown

MAX_TEXT = 4_000
"""Characters of an error's text."""


class MqkitError(Exception):
    """The root of all errors raised by mqkit.

    Its text is one line that can be shown anywhere: what it quotes of a message or of a peer is
    escaped (`mqkit.logging.shown`). What an error has as attributes is as it came.
    """

    has_lines: ClassVar[bool] = False
    """Whether mqkit itself writes its text on several lines, as where it shows the end of a log."""

    def __str__(self) -> str:
        text = super().__str__()
        if not self.has_lines:
            return shown(text, MAX_TEXT)
        return "\n".join(shown(line, MAX_TEXT) for line in text.splitlines())


# --- what the programmer or the operator wrote -------------------------------------------------


class ConfigurationError(MqkitError):
    """Something was declared or configured wrongly; nothing was sent to a broker."""


class OptionError(ConfigurationError, ValueError):
    """An option was given what it does not take; the message names it, and what it takes."""


class PolicyError(MqkitError):
    """A strategy of a retry policy answered with neither a time nor yes or no.

    The message that it was asked about is dead-lettered as `policy-failed`.
    """


class BrokerUrlError(ConfigurationError):
    """A broker URL is malformed, or has a parameter that mqkit does not know.

    The message never holds the URL's password.
    """


class HandlerError(ConfigurationError):
    """A handler cannot be registered; the message names the handler and the argument."""


class MissingExtraError(ConfigurationError, ModuleNotFoundError):
    """A part of mqkit is used whose libraries are not installed; the message says how to do it.

    It is raised where the part is imported, and so is an `ImportError` too: what makes do without
    an optional module, and what only looks whether there is one, catch that.
    """


class ServiceNotFoundError(ConfigurationError):
    """`MODULE:SERVICE` names no module, no attribute, or something that is not a `Service`."""


# --- the broker's side -------------------------------------------------------------------------


class BrokerError(MqkitError):
    """The root of what goes wrong between this process and the broker."""


class ConnectError(BrokerError):
    """No connection to the broker could be opened."""


class AuthenticationError(ConnectError):
    """The broker refused the user name and password; trying again would not help."""


class VirtualHostError(ConnectError):
    """The broker refused the virtual host: it does not exist, or this user may not enter it."""


class BorrowedConnectionError(MqkitError):
    """A connection that mqkit has borrowed is closed; only the application can open it again."""


class ChannelClosedError(BrokerError):
    """A channel is closed: by the broker (`code` and `text` are its), or with its connection.

    `code` is the AMQP reply code (AMQP 0-9-1, section 1.2 "Constants"); 0 where the broker
    gave none, because the connection was lost.
    """

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"the channel is closed: {text}" + (f" ({code})" if code else ""))
        self.code = code
        self.text = text


class ManagementError(BrokerError):
    """The broker's management API cannot be asked; the message never holds its password."""


class TopologyError(BrokerError):
    """The broker refused to declare or bind something; the message names it and the difference."""


# --- publishing --------------------------------------------------------------------------------


class _OutgoingError(BrokerError):
    """What goes wrong with one outgoing message, which its text and its attributes name."""

    _noun: ClassVar[str] = "message"

    def __init__(
        self, problem: str, *, exchange: str, routing_key: str, message_id: str | None
    ) -> None:
        where = f"exchange {exchange!r}" if exchange else "the default exchange"
        super().__init__(
            f"{self._noun} {message_id} to {where} with routing key {routing_key!r}: {problem}"
        )
        self.problem = problem
        self.exchange = exchange
        self.routing_key = routing_key
        self.message_id = message_id


class PublishError(_OutgoingError):
    """A publish was not confirmed.

    `may_be_stored` tells the two families apart: False, the broker does not have the message;
    True, nobody knows, and publishing again under the same `message_id` is the safe answer. It is
    True of a refusal, too, where the message was written before and the confirm of that was lost:
    with its connection, or because its exchange was deleted right then.
    """

    may_be_stored: bool = False


class UnroutableError(PublishError):
    """The broker returned the message: no queue is bound for its routing key."""


class ExchangeNotFoundError(PublishError):
    """The exchange does not exist in this virtual host."""


class ExchangeMismatchError(PublishError, TopologyError):
    """The exchange is on the broker, declared otherwise; the message says what differs.

    Nothing was written. Declare it alike, or publish to it by its name.
    """


class PublishRefusedError(PublishError):
    """The broker refused this publish (no permission, too large, a forged user id)."""


class NackedError(PublishError):
    """The broker answered `basic.nack`: a queue refused the message (full, or failing).

    Unknown: RabbitMQ may have stored it all the same, for another queue or, as seen on 4.3.6, for
    a classic queue that was declared a moment before.
    """

    may_be_stored = True


class BlockedError(PublishError):
    """The broker blocks publishers (a memory or disk alarm); nothing was written."""


class PublishTimeoutError(PublishError):
    """No confirm came before the deadline. Unknown: the message may be stored."""

    may_be_stored = True


class ConnectionLostError(PublishError):
    """The connection was lost, and the deadline passed before a confirm.

    `may_be_stored` is True where the message had been written at least once, and False where
    there was no connection to write it to.
    """

    def __init__(
        self,
        problem: str,
        *,
        exchange: str,
        routing_key: str,
        message_id: str | None,
        may_be_stored: bool = True,
    ) -> None:
        super().__init__(problem, exchange=exchange, routing_key=routing_key, message_id=message_id)
        self.may_be_stored = may_be_stored


class PublisherClosedError(PublishError):
    """The publisher was closed before the message was confirmed, or before it was written."""


class InvalidMessageError(MqkitError):
    """A message cannot be sent as it is: something of it is not encodable, or over `Limits`."""


class HeadersTooLargeError(InvalidMessageError):
    """A message's headers and properties do not fit into one frame, as they must.

    They take `size` bytes, and this connection's broker takes `limit` at most (`frame_max`).
    """

    def __init__(self, problem: str, *, size: int, limit: int) -> None:
        super().__init__(problem)
        self.size = size
        self.limit = limit


# --- requests ----------------------------------------------------------------------------------


class RequestError(_OutgoingError):
    """A request was published, and the reply that was asked for did not come."""

    _noun = "request"


class RequestTimeoutError(RequestError):
    """No reply came in time. The request is stored, and may have been handled or may be yet.

    Ask again under the same `message_id`, which a handler with a store answers from what it did
    the first time.
    """


class ReplyLostError(RequestError):
    """The channel that the reply would have come by is gone, and the reply with it.

    The request may have been handled. Ask again under the same `message_id`, which a handler with
    a store answers from what it did the first time.
    """


class RequestRejectedError(RequestError):
    """The handler refused the request (`Reject`); `reason` is what it gave as its reason.

    It is in the dead letter queue; asking again is answered alike until something changes.
    """

    def __init__(
        self, reason: str, *, exchange: str, routing_key: str, message_id: str | None
    ) -> None:
        super().__init__(
            f"it was rejected: {reason}",
            exchange=exchange,
            routing_key=routing_key,
            message_id=message_id,
        )
        self.reason = reason


class RequestFailedError(RequestError):
    """The request was given up, and is in the dead letter queue, where its error can be read.

    `reason` is a value of `mqkit.outcome.DeathReason`, or another one of a later mqkit.
    `explanation` says what is wrong with a request whose body did not validate; else it is None.
    """

    def __init__(
        self,
        reason: str,
        *,
        exchange: str,
        routing_key: str,
        message_id: str | None,
        explanation: str | None = None,
    ) -> None:
        told = f": {explanation}" if explanation else "; its dead letter tells the error"
        super().__init__(
            f"its handler failed ({reason}){told}",
            exchange=exchange,
            routing_key=routing_key,
            message_id=message_id,
        )
        self.reason = reason
        self.explanation = explanation


# --- receiving ---------------------------------------------------------------------------------


class DecodeError(MqkitError):
    """A message does not decode, is over `Limits`, or is not of the type that is asked for."""


class OrderError(MqkitError):
    """A message has no key to be ordered by, or was held too long for the order of its key."""


class BatchResultError(MqkitError):
    """A handler of batches returned neither None nor a result for each message."""


class HandlerAbortedError(MqkitError):
    """A handler ended with what is no `Exception`: a failure like others, for its retry policy.

    That is `CancelledError` of its own, `SystemExit`, `KeyboardInterrupt`, `GeneratorExit`, or any
    other class derived from `BaseException`, a group of such included. The original is the cause.
    """


class HandlerResultError(MqkitError):
    """A handler, or a middleware, returned what is no result: a failure like others.

    That is a coroutine or a generator, whose body did not run, or not to its end; or an exception
    that was to be raised, such as a `Reject`. In the list of a batch it is a class of exceptions.
    """


class MessageExpiredError(MqkitError):
    """A message's time to live (`expiration`) ended before it could be handled, or tried again."""


class HandlerTimeoutError(MqkitError):
    """A handler ran past its `timeout`: a failure like others, which its retry policy judges."""


class ProbeTimeoutError(MqkitError):
    """The probe of a pause did not return in time; its dependency counts as down."""


class HandlerPausedError(MqkitError):
    """A message was put back unhandled, because its handler paused."""


# --- the store's side --------------------------------------------------------------------------


class StoreError(MqkitError):
    """The root of what goes wrong between this process and its store (a database)."""


class UncountedError(StoreError):
    """Something keeps a message from being handled now, by no fault of its own.

    It is tried again later without counting the attempt, whatever its policy says; `wait` is after
    how many seconds, where that is said.
    """

    wait: float | None = None


class StoreConflictError(UncountedError):
    """Another message changed the same row first; this one starts anew from what that left."""


class StoreUnavailableError(UncountedError):
    """The database is away, locked or chose this transaction as a deadlock's victim.

    Trying again may help. A message that meets it is tried again later, without counting the
    attempt, whatever its policy says: it is not the message that failed. `wait` is after how many
    seconds, where the store says so.
    """

    def __init__(self, text: str, *, wait: float | None = None, lasting: bool = False) -> None:
        super().__init__(text)
        self.wait = wait
        self.lasting = lasting
        """Whether it is a state of the whole database (its disk is full) that may go on."""
        self.lost_after: float | None = None
        """Seconds from the beginning of a transaction until its connection was found closed."""


class StatementError(StoreError):
    """A handler's transaction failed while the database is well: a failure like others.

    A statement took longer than `Store(statement_timeout=...)`, or one message's transactions
    failed again and again with what is otherwise not counted.
    """


class RowError(StoreError):
    """A row was added to a table of which it is none: a wrong column, or a value it cannot hold."""


class MessageIdError(StoreError):
    """A message id that the store cannot keep: with NUL or half a character, or too long."""


class MessageIdReusedError(MessageIdError):
    """A message has the id of another one, with another body, which was handled before."""
