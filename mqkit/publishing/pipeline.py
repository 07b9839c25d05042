"""Publishes many messages at once, in their order, and collects the result of each."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
)
from dataclasses import dataclass
from typing import Any

from mqkit.checks.checked import shown
from mqkit.clock import loop_clock, monotonic
from mqkit.drivers.base import Acked, Verdict
from mqkit.errors import InvalidMessageError, MqkitError, OptionError
from mqkit.hooks.tracing import MessageTracing, PublishSpan
from mqkit.logging.error_reports import log_error
from mqkit.message import Message, maker
from mqkit.publishing.outgoing import Outgoing
from mqkit.publishing.sender import Sender, Unconfirmed

logger = logging.getLogger(__name__)

OnConfirmed = Callable[[Message], None]
"""Called with each message after the broker has confirmed it.

It is called on the event loop and must return at once. What it raises is logged: the message is
published all the same.
"""


OnEnded = Callable[[Message, float, BaseException | None], None]
"""Called when a publish has ended: with its seconds, and its error if it was not confirmed.

It is called on the event loop, must return at once, and raises nothing.
"""


def teller(on_confirmed: OnConfirmed | None, option: str) -> OnConfirmed:
    """Make what tells the observer of a message, if there is one, and logs what that raises.

    :param option: what an error calls the observer
    :raises OptionError: it is no function
    """
    if on_confirmed is not None and not callable(on_confirmed):
        raise OptionError(f"{option} takes a function of a message, not {shown(on_confirmed)}")

    def tell(message: Message) -> None:
        if on_confirmed is not None:
            try:
                on_confirmed(message)
            except BaseException as error:  # noqa: BLE001 - the driver calls this
                text = "the observer of confirmed messages failed"
                log_error(logger, logging.ERROR, text, error=error)

    return tell


async def told(
    message: Message, sending: Awaitable[None], tell: OnConfirmed, on_ended: OnEnded | None
) -> None:
    """Wait until a message is sent, and tell that it is confirmed, and how its publish ended."""
    if on_ended is None:
        await sending
        tell(message)
        return
    began = monotonic()
    try:
        await sending
    except BaseException as error:
        on_ended(message, monotonic() - began, error)
        raise
    tell(message)
    on_ended(message, monotonic() - began, None)


@dataclass(frozen=True, slots=True)
class PublishResult:
    """The result of one message of `publish_many`; `error` is None where it was confirmed."""

    index: int
    message_id: str | None
    error: MqkitError | None


_result = maker(PublishResult)


def not_outgoing(index: int, given: object) -> InvalidMessageError:
    """Make the error of what is no message."""
    return InvalidMessageError(f"message {index}: publish_many takes Outgoing, not {shown(given)}")


class _InFlight:
    """A message that was written and waits for the broker's verdict.

    It waits as a future does, but its verdict is handled when it comes and not in a later turn of
    the loop; a future, its callback and that turn took more than the rest of a publish.
    """

    __slots__ = ("_done", "_pipeline", "began", "index", "message")

    def __init__(
        self, pipeline: PublishPipeline, index: int, message: Message, began: float
    ) -> None:
        self._pipeline = pipeline
        self._done = False
        self.index = index
        self.message = message
        self.began = began

    def done(self) -> bool:
        return self._done

    def set_result(self, verdict: Verdict | Unconfirmed) -> None:
        self._done = True
        self._pipeline.on_verdict(self, verdict)


class PublishPipeline:
    """Publishes messages, each without a task of its own unless it has to wait.

    While one waits, or is written again since its channel was lost, later ones are held, or they
    would be in the queue before it.
    """

    def __init__(
        self,
        sender: Sender,
        tell: OnConfirmed,
        seconds: float,
        on_ended: OnEnded | None = None,
        tracing: MessageTracing | None = None,
    ) -> None:
        """Publish nothing yet.

        :param seconds: what each message is given
        :param tracing: makes a span of each that `begin` publishes
        """
        self._sender = sender
        self._tracing = tracing
        self._spans: dict[int, PublishSpan] = {}
        self._tell = tell
        self._on_ended = on_ended
        self._seconds = seconds
        self._now = loop_clock()
        self._begun = self._ended = 0
        self._in_flight = 0
        """How many were written without a task and have no verdict yet."""
        self._tasks: dict[asyncio.Task[None], None] = {}
        self._held: deque[tuple[int, Message, float]] = deque()
        self._changed = asyncio.Event()
        self._defect: BaseException | None = None
        self.finished: deque[PublishResult] = deque()

    def __len__(self) -> int:
        """Count the messages that have begun, and whose result `next` has not returned."""
        return self._begun - self._ended

    async def next(self) -> PublishResult:
        """Wait for the next result, and return it.

        Raises what only a defect can: all that a publish may raise is in its result.
        """
        while not self.finished:
            if self._defect is not None:
                raise self._defect
            self._changed.clear()
            await self._changed.wait()
        self._ended += 1
        return self.finished.popleft()

    def begin(self, outgoing: object, to_message: Callable[[Outgoing], Message]) -> None:
        """Publish one more message, without waiting for its result."""
        index = self._begun
        self._begun += 1
        if not isinstance(outgoing, Outgoing):
            self._finish(index, None, not_outgoing(index, outgoing))
            return
        try:
            message = to_message(outgoing)
        except MqkitError as error:
            self._finish(index, outgoing.message_id, error)
            return
        if self._tracing is not None:
            self._spans[index] = self._tracing.publishing(message)
        self._start(index, message)

    def begin_message(self, index: int, message: Message, span: PublishSpan | None = None) -> None:
        """Publish one more that is ready to be written; its result has the index that is given.

        :param span: ends when there is a result
        """
        self._begun += 1
        if span is not None:
            self._spans[index] = span
        self._start(index, message)

    def _start(self, index: int, message: Message) -> None:
        began = self._now()
        try:
            if self._held or self._tasks or not self._write(index, message, began, self._seconds):
                self._held.append((index, message, began))
                self._write_held()
        except MqkitError as error:
            self._end(index, message, began, error)

    def _write(self, index: int, message: Message, began: float, left: float) -> bool:
        """Write a message now, or return False if it must wait; `left` are the seconds it has."""
        if not self._sender.write(message, left, _InFlight(self, index, message, began)):
            return False
        self._in_flight += 1
        return True

    def _write_held(self) -> None:
        """Write what is held, once all that comes before it is written."""
        while self._held and not self._tasks:
            index, message, began = self._held[0]
            # Rounded: all deadlines that are as many seconds away share a timer.
            left = round(began + self._seconds - self._now(), 1)
            try:
                written = left > 0 and self._write(index, message, began, left)
            except MqkitError as error:
                self._held.popleft()
                self._end(index, message, began, error)
                continue
            if not written:
                if self._in_flight:
                    return
                sending = self._sender.send(message, self._seconds, began)
                self._finish_later(index, message, began, sending)
            self._held.popleft()

    def cancel(self) -> None:
        """Stop waiting for results, and write no more; what is written stays so."""
        self._held.clear()
        for task in self._tasks:
            task.cancel()
        while self._spans:
            self._spans.popitem()[1].end()

    def on_verdict(self, in_flight: _InFlight, verdict: Verdict | Unconfirmed) -> None:
        """Take the verdict on a message; what a defect raises here, `next` raises."""
        self._in_flight -= 1
        try:
            self._sender.release()
            self._handle_verdict(in_flight, verdict)
        except Exception as error:  # noqa: BLE001 - `next` raises it
            self._fail(error)

    def _handle_verdict(self, in_flight: _InFlight, verdict: Verdict | Unconfirmed) -> None:
        message = in_flight.message
        if isinstance(verdict, Acked):
            self._tell(message)
            if self._on_ended is not None:
                self._on_ended(message, self._now() - in_flight.began, None)
            self._finish(in_flight.index, message.properties.message_id)
        else:
            sending = self._sender.resend(message, verdict, self._seconds, in_flight.began)
            self._finish_later(in_flight.index, message, in_flight.began, sending)
        if self._held:
            self._write_held()

    def _finish_later(
        self, index: int, message: Message, began: float, sending: Coroutine[Any, Any, None]
    ) -> None:
        async def send() -> None:
            try:
                await sending
            except MqkitError as error:
                self._end(index, message, began, error)
            else:
                self._tell(message)
                self._end(index, message, began)

        task = asyncio.create_task(send())
        self._tasks[task] = None
        task.add_done_callback(self._on_task_done)

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)
        self._write_held()

    def _fail(self, error: BaseException) -> None:
        self._defect = error
        self._changed.set()

    def _end(
        self, index: int, message: Message, began: float, error: MqkitError | None = None
    ) -> None:
        if self._on_ended is not None:
            self._on_ended(message, self._now() - began, error)
        self._finish(index, message.properties.message_id, error)

    def _finish(self, index: int, message_id: str | None, error: MqkitError | None = None) -> None:
        if self._spans:
            span = self._spans.pop(index, None)
            if span is not None:
                span.end(error)
        self.finished.append(_result(index, message_id, error))
        if not self._changed.is_set():
            self._changed.set()


def publish_each(
    pipeline: PublishPipeline,
    messages: Iterable[Outgoing] | AsyncIterable[Outgoing],
    window: int,
    to_message: Callable[[Outgoing], Message],
) -> AsyncIterator[PublishResult]:
    """Publish each message, at most `window` without a result; see `Publisher.publish_many`.

    :raises OptionError: the messages are not to be iterated over
    """
    if not isinstance(messages, AsyncIterable | Iterable):
        raise OptionError(
            "publish_many takes an iterable of Outgoing, asynchronous or not, "
            f"not {shown(messages)}"
        )
    return _publish_each(pipeline, messages, window, to_message)


async def _publish_each(
    pipeline: PublishPipeline,
    messages: Iterable[Outgoing] | AsyncIterable[Outgoing],
    window: int,
    to_message: Callable[[Outgoing], Message],
) -> AsyncIterator[PublishResult]:
    failure: list[Exception] = []
    try:
        async for outgoing in _items(messages, failure):
            pipeline.begin(outgoing, to_message)
            while pipeline.finished or len(pipeline) >= window:
                yield await pipeline.next()
        while len(pipeline):
            yield await pipeline.next()
    finally:
        pipeline.cancel()
    for error in failure:
        raise error


async def _items(
    messages: Iterable[Outgoing] | AsyncIterable[Outgoing], failure: list[Exception]
) -> AsyncIterator[Outgoing]:
    """Yield the messages; what the iterable raises is put into `failure`, and ends them."""
    try:
        if isinstance(messages, AsyncIterable):
            async for message in messages:
                yield message
        else:
            for message in messages:
                yield message
    except Exception as error:  # noqa: BLE001 - it is raised when the results are given
        failure.append(error)
