"""Publishes requests, many at once on one channel, and gives each the reply that comes back on it.

Direct reply-to (https://www.rabbitmq.com/docs/direct-reply-to): a request is published on the
channel that consumes the replies, without acks. The broker keeps no reply; where the channel is
gone, so are the replies of all that was asked on it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Self

from mqkit.broker.connection import Connection
from mqkit.clock import monotonic
from mqkit.drivers.base import Closed, DriverChannel, Gone, Incoming, Verdict
from mqkit.errors import (
    BrokerError,
    PublishError,
    ReplyLostError,
    RequestError,
    RequestTimeoutError,
)
from mqkit.message import Message
from mqkit.publishing.channel import PublishChannel
from mqkit.publishing.confirms import ConfirmChannel
from mqkit.publishing.exchanges import Exchanges
from mqkit.publishing.pipeline import OnEnded
from mqkit.publishing.replies import DIRECT_REPLY_TO
from mqkit.publishing.verdicts import Progress, Stage, judge

logger = logging.getLogger(__name__)

ASK_AGAIN = (
    "it may have been handled; ask again under the same message_id, which a handler with a store "
    "answers from what it did the first time"
)

Answer = asyncio.Future[Incoming | Gone]


class ReplyChannel(ConfirmChannel):
    """A confirm channel that also consumes the replies to the requests written on it."""

    def __init__(self, channel: DriverChannel) -> None:
        super().__init__(channel)
        self._asked: dict[str, Answer] = {}
        self._closing: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, channel: DriverChannel) -> Self:
        """Put a new channel into confirm mode, and consume its replies."""
        replies = await super().open(channel)
        await replies._consume()  # noqa: SLF001 - its own class
        return replies

    async def _consume(self) -> None:
        await self._channel.consume(DIRECT_REPLY_TO, self._on_reply, self._on_cancel, no_ack=True)

    def ask(self, request: Message, answer: Answer) -> asyncio.Future[Verdict]:
        """Write a request; `answer` gets the reply to its correlation id, until `forget`.

        :raises InvalidMessageError: as `write`
        :raises ChannelClosedError: as `write`
        """
        verdict = self.write(request)
        self._asked[request.properties.correlation_id or ""] = answer
        return verdict

    def forget(self, request: Message) -> None:
        """Stop waiting for the reply to a request."""
        self._asked.pop(request.properties.correlation_id or "", None)

    def _on_reply(self, reply: Incoming) -> None:
        answer = self._asked.get(reply.properties.correlation_id or "")
        if answer is None or answer.done():
            logger.debug("dropped a reply that nobody waits for, or not any more")
        else:
            answer.set_result(reply)

    def _on_cancel(self) -> None:
        # No reply comes after it, so all that wait must be told; the next request opens another.
        self._closing = asyncio.ensure_future(self.close())

    def _on_closed(self, closed: asyncio.Future[Closed]) -> None:
        # The answers first: who is told that its publish is gone looks for its answer next.
        asked, self._asked = self._asked, {}
        for answer in asked.values():
            if not answer.done():
                answer.set_result(Gone(closed.result()))
        super()._on_closed(closed)


class Requester:
    """Publishes requests over one connection and waits for their replies.

    `on_confirmed` is called with each request that is stored. `new_id` makes correlation ids, which
    nobody may guess: whoever gets one request sees where its channel's replies go, and must not be
    able to answer another one.
    """

    def __init__(
        self,
        connection: Connection,
        exchanges: Exchanges,
        new_id: Callable[[], str],
        on_confirmed: Callable[[Message], None],
        on_ended: OnEnded | None = None,
        *,
        window: int,
    ) -> None:
        self._window = asyncio.Semaphore(window)
        self._channel = PublishChannel(connection, exchanges, ReplyChannel.open)
        self._on_confirmed = on_confirmed
        self._on_ended = on_ended
        self._new_id = new_id
        self._asking = 0
        self._none_asking = asyncio.Event()
        self._none_asking.set()

    async def ask(self, request: Message, seconds: float) -> Incoming:
        """Publish `request` once, and return the first reply; raises as `Publisher.request`."""
        properties = replace(
            request.properties,
            correlation_id=self._new_id(),
            reply_to=DIRECT_REPLY_TO,
        )
        request = replace(request, properties=properties, mandatory=True)
        progress = Progress()
        began = monotonic()
        self._asking += 1
        self._none_asking.clear()
        try:
            return await self._ask(request, progress, seconds, began)
        except BaseException as error:
            if progress.stage is not Stage.REPLY:
                self._end(request, began, error)
            raise
        finally:
            self._asking -= 1
            if not self._asking:
                self._none_asking.set()

    async def _ask(
        self, request: Message, progress: Progress, seconds: float, began: float
    ) -> Incoming:
        try:
            async with asyncio.timeout(seconds):
                return await self._answer(request, progress, began)
        except TimeoutError:
            raise self._deadline_passed(request, progress, seconds) from None

    def _end(self, request: Message, began: float, error: BaseException | None = None) -> None:
        if self._on_ended is not None:
            self._on_ended(request, monotonic() - began, error)

    async def idle(self) -> None:
        """Wait until every request that was given has its reply, or has failed."""
        await self._none_asking.wait()

    async def close(self) -> None:
        """Refuse further requests; those that wait for their reply have lost it."""
        await self._channel.close()

    async def _answer(self, request: Message, progress: Progress, began: float) -> Incoming:
        answer: Answer = asyncio.get_running_loop().create_future()
        channel: ReplyChannel | None = None
        try:
            async with self._window:
                channel, verdict = await self._channel.write_when_ready(
                    request, progress, lambda channel: channel.ask(request, answer)
                )
                # A reply may come before the confirm, and then says more than that.
                await asyncio.wait((verdict, answer), return_when=asyncio.FIRST_COMPLETED)
            replied = answer.done() and isinstance(answer.result(), Incoming)
            judgement = None if replied else judge(request, verdict.result())
            if isinstance(judgement, PublishError):
                raise judgement
            if judgement is None:
                progress.stage = Stage.REPLY
                self._on_confirmed(request)
                self._end(request, began)
            reply = await answer
            if isinstance(reply, Gone):
                # It is not written again: unlike a message, a request must not be handled twice
                # unasked.
                problem = f"its channel closed before the reply came ({reply.why.text})"
                raise _error(ReplyLostError, request, f"{problem}; {ASK_AGAIN}")
            return reply
        finally:
            if channel is not None:
                channel.forget(request)

    def _deadline_passed(self, request: Message, progress: Progress, seconds: float) -> BrokerError:
        if progress.stage is not Stage.REPLY:
            return self._channel.deadline_passed(request, progress, seconds)
        return _error(RequestTimeoutError, request, f"no reply within {seconds:g} s; {ASK_AGAIN}")


def _error(kind: type[RequestError], request: Message, problem: str) -> RequestError:
    return kind(
        problem,
        exchange=request.exchange,
        routing_key=request.routing_key,
        message_id=request.properties.message_id,
    )
