"""From a delivery to its outcome: decode, validate, middleware, handler, policy. No settling."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import inspect
import logging
import random
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from mqkit.codec import check_received, encode
from mqkit.effects import EffectStore, needs_transaction
from mqkit.errors import (
    DecodeError,
    HandlerAbortedError,
    HandlerTimeoutError,
    InvalidMessageError,
    MessageIdError,
    MessageIdReusedError,
    StoreUnavailableError,
)
from mqkit.handler import Handler
from mqkit.injection import DELIVERIES, Provider
from mqkit.limits import DEFAULT_LIMITS, Limits
from mqkit.message import Delivery, elapsed_seconds
from mqkit.middleware import CallNext, HandlerCall, Middleware, compose
from mqkit.outcome import Ack, DeadLetter, DeathReason, Lost, Outcome, Requeue, RetryAfter

logger = logging.getLogger(__name__)

STORE_WAIT_MIN = 0.5
STORE_WAIT_MAX = 5.0
"""Seconds until a message that met an unavailable store is tried again, drawn between these."""

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The wall clock, in UTC."""
    return datetime.now(UTC)


class Dispatcher:
    """Runs one handler for one delivery at a time, and decides what becomes of the delivery.

    `values` holds what lives as long as the service: type to value. `executor` runs `def`
    handlers. What is over the `limits` is dead-lettered undecoded. A handler that asks for a
    transaction of the `store` runs inside of one, and is not run at all for a message that it has
    handled before.
    """

    def __init__(
        self,
        service: str,
        handler: Handler,
        *,
        middleware: tuple[Middleware, ...],
        values: Mapping[Any, Any],
        providers: Mapping[Any, Provider],
        executor: Executor | None,
        store: EffectStore | None = None,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self._service = service
        self._handler = handler
        self._values = values
        self._providers = providers
        self._executor = executor
        self._limits = limits
        self._threads: dict[Delivery, Future[Any]] = {}
        self._store = store if needs_transaction(handler.plan, providers) else None
        # Most handlers take only these, and nothing has to be made and closed for a message.
        self._fixed = {n: values[k] for n, k in handler.plan.injected.items() if k in values}
        self._taking_delivery = [n for n, k in handler.plan.injected.items() if k is Delivery]
        self._taking_all = [n for n, k in handler.plan.injected.items() if k == DELIVERIES]
        known = len(self._fixed) + len(self._taking_delivery) + len(self._taking_all)
        self._is_plain = known == len(handler.plan.injected)
        self._run = compose((*middleware, *handler.middleware), self._innermost())

    def _innermost(self) -> CallNext:
        """What a run is without its middleware; each of these steps costs a message a little."""
        if self._store is not None:
            return self._call_in_transaction
        if self._handler.timeout is not None:
            return self._call_in_time
        return self._call_function

    async def dispatch(self, delivery: Delivery) -> Outcome:  # noqa: PLR0911 - see below: why
        """Run the handler and return the outcome; raises nothing that the handler raised."""
        try:
            body = self.decode(delivery)
        except DecodeError as error:
            return DeadLetter(DeathReason.UNDECODABLE, error)
        if self._store is not None and not delivery.message_id:
            return DeadLetter(DeathReason.UNIDENTIFIED, _unidentified(self._handler.name))
        began = time.monotonic()
        call = HandlerCall(self._service, self._handler.name, delivery, body)
        try:
            result = await self._run(call)
            reply = self.as_reply(delivery, result)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                task.uncancel()
                return _unless_lost(delivery, Requeue())
            return _unless_lost(delivery, self.decide(delivery, _aborted(error), began))
        except SystemExit as error:
            return _unless_lost(delivery, self.decide(delivery, _aborted(error), began))
        except StoreUnavailableError as error:
            wait = random.uniform(STORE_WAIT_MIN, STORE_WAIT_MAX)
            if error.wait is not None:
                wait = error.wait
            elapsed = elapsed_seconds(delivery.headers)
            return _unless_lost(delivery, RetryAfter(wait, error, elapsed=elapsed, counted=False))
        except MessageIdError as error:
            return _unless_lost(delivery, DeadLetter(_unfit_id(error), error))
        except Exception as error:  # noqa: BLE001 - whatever a handler raises is an outcome
            # No variable holds the outcome: it has the error, whose traceback has this frame, and
            # each failed message would stay in memory until the garbage collector finds it.
            return _unless_lost(delivery, self.decide(delivery, error, began))
        return _unless_lost(delivery, Ack(result, reply))

    async def run_batch(self, deliveries: tuple[Delivery, ...], bodies: list[Any]) -> Any:
        """Run the handler for all of them, and return what it returned.

        :raises Exception: whatever it raised; `HandlerAbortedError` for what is no `Exception`
        """
        call = HandlerCall(self._service, self._handler.name, deliveries[0], bodies, deliveries)
        try:
            return await self._run(call)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise _aborted(error) from error
        except SystemExit as error:
            raise _aborted(error) from error

    def as_reply(self, delivery: Delivery, result: Any) -> tuple[bytes, str] | None:
        """The result as a body and its content type, where the message asks for a reply.

        :raises InvalidMessageError: it cannot be written, which is a failure of the handler
        """
        return encode(result, limits=self._limits) if delivery.properties.reply_to else None

    def decode(self, delivery: Delivery) -> Any:
        """The validated body.

        :raises DecodeError: it is over the limits, or not what the handler takes
        """
        check_received(delivery.body, delivery.properties, self._limits)
        decoder = self._handler.plan.decoder
        if decoder is None:
            return None
        return decoder.decode(delivery.body, delivery.properties, self._limits)

    def decide(self, delivery: Delivery, error: BaseException, began: float) -> Outcome:
        """What the policy makes of a failure.

        :param began: when the run did, on the monotonic clock
        """
        elapsed = elapsed_seconds(delivery.headers)
        if delivery.attempt > 1:
            elapsed += time.monotonic() - began
        try:
            outcome = self._handler.retry.decide(error, attempt=delivery.attempt, elapsed=elapsed)
        except Exception as policy_error:
            logger.exception(
                "%s: the retry policy failed; message %s is dead-lettered",
                self._handler.name,
                delivery.message_id,
            )
            policy_error.__context__ = error
            return DeadLetter(DeathReason.POLICY_FAILED, policy_error)
        if isinstance(outcome, RetryAfter):
            return replace(outcome, elapsed=elapsed + outcome.delay)
        return outcome

    async def _call_in_transaction(self, call: HandlerCall) -> Any:
        assert self._store is not None
        return await self._store.once(
            self._handler.name,
            call.delivery,
            functools.partial(self._run_in_transaction, call),
        )

    async def _run_in_transaction(self, call: HandlerCall, transaction: Any) -> Any:
        made = {type(transaction): transaction}
        if self._handler.timeout is None:
            result = await self._call_function(call, made)
        else:
            result = await self._call_in_time(call, made)
        self.as_reply(call.delivery, result)  # one that cannot be sent must fail before the commit
        return result

    async def _call_in_time(self, call: HandlerCall, made: dict[Any, Any] | None = None) -> Any:
        timeout = self._handler.timeout
        deadline = asyncio.timeout(timeout)
        try:
            async with deadline:
                return await self._call_function(call, made)
        except TimeoutError as error:
            if not deadline.expired():
                raise
            for delivery in call.deliveries or (call.delivery,):
                delivery.overdue = True
            raise HandlerTimeoutError(
                f"handler {self._handler.name} ran past its timeout of {timeout:g} s"
            ) from error

    async def _call_function(self, call: HandlerCall, made: dict[Any, Any] | None = None) -> Any:
        plan = self._handler.plan
        arguments = dict(self._fixed)
        for name in self._taking_delivery:
            arguments[name] = call.delivery
        for name in self._taking_all:
            arguments[name] = list(call.deliveries)
        if plan.body is not None:
            arguments[plan.body] = call.body
        if self._is_plain:
            return await self._call_with(call, arguments)
        made = {} if made is None else made
        async with contextlib.AsyncExitStack() as stack:
            for name, kind in plan.injected.items():
                if name not in arguments:
                    arguments[name] = await self._value(kind, call.delivery, stack, made)
            return await self._call_with(call, arguments)

    async def _call_with(self, call: HandlerCall, arguments: dict[str, Any]) -> Any:
        if self._handler.is_async:
            return await self._handler.function(**arguments)
        run = functools.partial(contextvars.copy_context().run, self._handler.function, **arguments)
        return await self._in_thread(call.delivery, run)

    async def _in_thread(self, delivery: Delivery, run: Callable[[], Any]) -> Any:
        assert self._executor is not None
        thread = self._executor.submit(run)
        self._threads[delivery] = thread
        try:
            return await asyncio.wrap_future(thread)
        finally:
            if thread.done():
                del self._threads[delivery]

    async def left(self, delivery: Delivery) -> None:
        """Wait until no thread runs for the delivery any more.

        One goes on after its run was cancelled or timed out. Until it ends it is as if the handler
        still ran: a message that comes again would be handled twice at the same time, and another
        one would find no thread.
        """
        thread = self._threads.pop(delivery, None)
        if thread is not None and not thread.done():
            logger.warning(
                "%s: message %s: its thread goes on; no other run takes its place before it ends",
                self._handler.name,
                delivery.message_id,
            )
            await asyncio.wait([asyncio.wrap_future(thread)])

    async def _value(
        self,
        kind: Any,
        delivery: Delivery,
        stack: contextlib.AsyncExitStack,
        made: dict[Any, Any],
    ) -> Any:
        if kind is Delivery:
            return delivery
        if kind in self._values:
            return self._values[kind]
        if kind not in made:
            provider = self._providers[kind]
            arguments = {
                name: await self._value(needed, delivery, stack, made)
                for name, needed in provider.parameters.items()
            }
            made[kind] = await make(provider, arguments, stack)
        return made[kind]


def _unless_lost(delivery: Delivery, outcome: Outcome) -> Outcome:
    return Lost() if delivery.lost else outcome


def _unfit_id(error: MessageIdError) -> DeathReason:
    is_reused = isinstance(error, MessageIdReusedError)
    return DeathReason.ID_REUSED if is_reused else DeathReason.UNIDENTIFIED


def _unidentified(handler: str) -> InvalidMessageError:
    return InvalidMessageError(
        f"the message has no message_id, by which handler {handler} and its store would know it "
        "again; its publisher must give it one"
    )


def _aborted(error: BaseException) -> HandlerAbortedError:
    """A failure that the policy can judge: tenacity's default retries `Exception` only."""
    aborted = HandlerAbortedError(
        f"the handler ended with {type(error).__name__}; it, or something that it awaited, was "
        "cancelled or left"
    )
    aborted.__cause__ = error
    return aborted


async def make(
    provider: Provider, arguments: Mapping[str, Any], stack: contextlib.AsyncExitStack
) -> Any:
    """A provider's value; what must be closed is left with `stack`."""
    value = provider.factory(**arguments)
    if inspect.isawaitable(value):
        value = await value
    if isinstance(value, contextlib.AbstractAsyncContextManager) and _is_manager(provider):
        return await stack.enter_async_context(value)
    if isinstance(value, contextlib.AbstractContextManager) and _is_manager(provider):
        return stack.enter_context(value)
    return value


def _is_manager(provider: Provider) -> bool:
    """Whether the factory is a generator function; another's value may happen to be closable."""
    return hasattr(provider.factory, "__wrapped__") and (
        inspect.isgeneratorfunction(provider.factory.__wrapped__)
        or inspect.isasyncgenfunction(provider.factory.__wrapped__)
    )
