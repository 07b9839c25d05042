"""Publishes many messages for a thread: it encodes and waits, and the event loop writes."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future

from mqkit.blocking.background import Background, BackgroundEndedError, NoThreadError
from mqkit.blocking.failures import publish_failure
from mqkit.errors import MqkitError
from mqkit.hooks.tracing import MessageTracing, PublishSpan
from mqkit.message import Message
from mqkit.publishing.outgoing import Outgoing
from mqkit.publishing.pipeline import PublishResult, not_outgoing
from mqkit.topology import Exchange


class ManyPublishes:
    """What one `publish_many` has handed to the loop, and the results that came back.

    Messages are handed over as many at a time as there are when the loop looks, and so are the
    results: a wake-up for each would cost more than its publish.
    """

    def __init__(
        self,
        background: Background,
        seconds: float,
        to_message: Callable[[Outgoing], Message],
        tracing: MessageTracing | None = None,
    ) -> None:
        """Hand nothing over yet.

        :param seconds: what each message is given
        """
        self._background = background
        self._pipeline = background.publisher.pipeline(seconds)
        self._to_message = to_message
        self._tracing = tracing
        self._given: deque[tuple[int, Exchange | str, Message, PublishSpan | None]] = deque()
        self._woken = False
        """Whether the loop is about to look at what was given."""
        self._results: deque[PublishResult] = deque()
        self._changed = threading.Event()
        self._waiting: dict[int, Message] = {}
        """What was handed over and has given no result yet, by its index."""
        self._pump: Future[None] | None = None

    def publish(self, messages: Iterable[object], window: int) -> Iterator[PublishResult]:
        """Publish them, and yield each result as it is known; see `Publisher.publish_many`."""
        failure: list[Exception] = []
        try:
            for index, outgoing in enumerate(_each(messages, failure)):
                self._begin(index, outgoing)
                while self._results or len(self._waiting) >= window:
                    yield self._next()
            while self._results or self._waiting:
                yield self._next()
        finally:
            if self._pump is not None:
                self._pump.cancel()
        for error in failure:
            raise error

    def _begin(self, index: int, outgoing: object) -> None:
        if not isinstance(outgoing, Outgoing):
            self._results.append(PublishResult(index, None, not_outgoing(index, outgoing)))
            return
        try:
            message = self._to_message(outgoing)
        except MqkitError as error:
            self._results.append(PublishResult(index, outgoing.message_id, error))
            return
        self._waiting[index] = message
        span = None if self._tracing is None else self._tracing.publishing(message)
        self._given.append((index, outgoing.exchange, message, span))
        if self._woken:
            return
        self._woken = True
        try:
            self._pump = self._pump or self._begin_collecting()
            self._background.call(self._write)
        except (BackgroundEndedError, NoThreadError) as why:
            self._woken = False
            while self._given:
                *_, span = self._given.pop()
                if span is not None:
                    span.end(why)
            self._cut_off({index: message}, why)

    def _begin_collecting(self) -> Future[None]:
        pump: Future[None] = Future()
        pump.add_done_callback(lambda _: self._changed.set())
        self._background.begin(self._collect, pump)
        return pump

    def _next(self) -> PublishResult:
        while not self._results:
            self._changed.clear()
            if self._results:
                break
            if self._pump is not None and self._pump.done():
                self._after_the_end(self._pump)
                break
            self._changed.wait()
        result = self._results.popleft()
        self._waiting.pop(result.index, None)
        return result

    def _after_the_end(self, pump: Future[None]) -> None:
        """Give what waits its result, for none comes from the loop any more.

        Raises what only a defect can.
        """
        if not pump.cancelled():
            pump.result()
        self._cut_off(self._waiting, BackgroundEndedError(begun=True))

    def _cut_off(
        self, messages: Mapping[int, Message], why: BackgroundEndedError | NoThreadError
    ) -> None:
        for index, message in messages.items():
            error = publish_failure(message, why)
            self._results.append(PublishResult(index, message.properties.message_id, error))

    # --- on the event loop -------------------------------------------------------------------

    async def _collect(self) -> None:
        """Pass the results on, until it is cancelled."""
        try:
            while True:
                self._results.append(await self._pipeline.next())
                if not self._changed.is_set():
                    self._changed.set()
        finally:
            self._pipeline.cancel()

    def _write(self) -> None:
        self._woken = False
        while self._given:
            index, exchange, message, span = self._given.popleft()
            self._background.publisher.note(exchange)
            self._pipeline.begin_message(index, message, span)


def _each(messages: Iterable[object], failure: list[Exception]) -> Iterator[object]:
    """Yield the messages; what the iterable raises is put into `failure`, and ends them."""
    try:
        yield from messages
    except Exception as error:  # noqa: BLE001 - it is raised when the results are given
        failure.append(error)
