"""From a delivery to its outcome: decode, validate, middleware, handler, policy. No settling."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import inspect
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from datetime import UTC, datetime
from typing import Any

from mqkit.copies import first_failure
from mqkit.errors import DecodeError, HandlerAbortedError
from mqkit.injection import Provider
from mqkit.message import Delivery
from mqkit.middleware import HandlerCall, Middleware, compose
from mqkit.outcome import Ack, DeadLetter, DeathReason, Lost, Outcome, Requeue
from mqkit.service import Handler

logger = logging.getLogger(__name__)

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The wall clock, in UTC."""
    return datetime.now(UTC)


class Dispatcher:
    """Runs one handler for one delivery at a time, and decides what becomes of the delivery.

    `values` holds what lives as long as the service: type to value. `executor` runs `def`
    handlers.
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
        clock: Clock = utc_now,
    ) -> None:
        self._service = service
        self._handler = handler
        self._values = values
        self._providers = providers
        self._executor = executor
        self._clock = clock
        self._run = compose((*middleware, *handler.middleware), self._call_handler)

    async def dispatch(self, delivery: Delivery) -> Outcome:
        """Run the handler and return the outcome; raises nothing that the handler raised."""
        plan = self._handler.plan
        try:
            body = plan.decoder.decode(delivery.body, delivery.properties) if plan.decoder else None
        except DecodeError as error:
            return DeadLetter(DeathReason.UNDECODABLE, error)
        call = HandlerCall(self._service, self._handler.name, delivery, body)
        try:
            await self._run(call)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                task.uncancel()
                return Requeue()
            outcome = self._decide(delivery, _aborted(error))
        except SystemExit as error:
            outcome = self._decide(delivery, _aborted(error))
        except Exception as error:  # noqa: BLE001 - whatever a handler raises is an outcome
            outcome = self._decide(delivery, error)
        else:
            outcome = Ack()
        return Lost() if delivery.lost else outcome

    def _decide(self, delivery: Delivery, error: BaseException) -> Outcome:
        now = self._clock()
        failed_first = first_failure(delivery.headers) or now
        elapsed = max((now - failed_first).total_seconds(), 0.0)
        try:
            return self._handler.retry.decide(error, attempt=delivery.attempt, elapsed=elapsed)
        except Exception as policy_error:
            logger.exception(
                "%s: the retry policy failed; message %s is dead-lettered",
                self._handler.name,
                delivery.message_id,
            )
            policy_error.__context__ = error
            return DeadLetter(DeathReason.POLICY_FAILED, policy_error)

    async def _call_handler(self, call: HandlerCall) -> Any:
        plan = self._handler.plan
        async with contextlib.AsyncExitStack() as stack:
            made: dict[Any, Any] = {}
            arguments = {
                name: await self._value(kind, call.delivery, stack, made)
                for name, kind in plan.injected.items()
            }
            if plan.body is not None:
                arguments[plan.body] = call.body
            if self._handler.is_async:
                return await self._handler.function(**arguments)
            run = functools.partial(
                contextvars.copy_context().run, self._handler.function, **arguments
            )
            return await asyncio.get_running_loop().run_in_executor(self._executor, run)

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
