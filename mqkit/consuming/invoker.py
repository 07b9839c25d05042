"""Calls a handler: its middleware, arguments, transaction, timeout, thread; and encodes its reply.

Whatever anybody's code raises in there comes out as an `Exception`, which the policy can judge.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from typing import Any, cast

from mqkit.clock import loop_clock
from mqkit.codec import encode
from mqkit.consuming.headers import those_too_late, too_late
from mqkit.consuming.results import check_result
from mqkit.consuming.threads.calls import HandlerThreads, InThread, ThreadCalls
from mqkit.consuming.threads.endings import aborted, is_thrown_away, told_by_future
from mqkit.errors import (
    BatchResultError,
    HandlerTimeoutError,
)
from mqkit.hooks.tracing import MessageTracing
from mqkit.limits import DEFAULT_LIMITS, Limits
from mqkit.logging.context import RUN
from mqkit.message import Delivery, maker
from mqkit.middleware import CallNext, HandlerCall, Middleware, compose
from mqkit.outcome import instruction
from mqkit.registration.factories import make
from mqkit.registration.handler import Handler
from mqkit.registration.injection import DELIVERIES, TRANSACTIONAL, Provider
from mqkit.registration.transactions import (
    ThreadStore,
    TransactionalStore,
    needs_thread,
    needs_transaction,
)
from mqkit.topology import Exchange

logger = logging.getLogger(__name__)

_handler_call = maker(HandlerCall)

Reply = tuple[bytes, str]
"""A result as a body and its content type."""


class Invoker:
    """Calls one handler, for a message or for a batch of them.

    `values` holds what lives as long as the service: type to value. `executor` runs `def`
    handlers. A handler that asks for a transaction of the `store` runs inside of one, and is not
    run for a message that it has handled. `check_exchange` refuses what it may not publish to.
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
        store: TransactionalStore | None = None,
        limits: Limits = DEFAULT_LIMITS,
        check_exchange: Callable[[Exchange], None] | None = None,
        tracing: MessageTracing | None = None,
    ) -> None:
        self._service = service
        self._handler = handler
        self._values = values
        self._providers = providers
        self._limits = limits
        self._check_exchange = check_exchange
        self._tracing = tracing
        self._threads = HandlerThreads(handler.name, executor)
        self._store = store if needs_transaction(handler.plan, providers) else None
        self._in_thread = needs_thread(handler.plan, providers)
        # Most handlers take only these, and nothing has to be made and closed for a message.
        self._fixed = {n: values[k] for n, k in handler.plan.injected.items() if k in values}
        self._taking_delivery = [n for n, k in handler.plan.injected.items() if k is Delivery]
        self._taking_all = [n for n, k in handler.plan.injected.items() if k == DELIVERIES]
        known = len(self._fixed) + len(self._taking_delivery) + len(self._taking_all)
        self._is_plain = known == len(handler.plan.injected)
        self._transaction: tuple[str, Any] | None = self._sole_transaction(known)
        """The argument that takes a transaction, where nothing else is made for a message."""
        self._is_short = (
            self._transaction is not None and handler.is_async and handler.timeout is None
        )
        around = (*middleware, *handler.middleware)
        self._has_middleware = bool(around)
        self._now = loop_clock()
        self._run = compose(around, self._innermost())

    def _sole_transaction(self, known: int) -> tuple[str, Any] | None:
        injected = self._handler.plan.injected
        taking = [(n, k) for n, k in injected.items() if getattr(k, TRANSACTIONAL, False)]
        return taking[0] if len(taking) == 1 and known + 1 == len(injected) else None

    @property
    def needs_message_id(self) -> bool:
        """Whether a message without an id cannot be handled: a store knows it again by that."""
        return self._store is not None

    @property
    def shares_commits(self) -> bool:
        """Whether runs that are ready at the same time may share a store's transaction."""
        return self._store is not None and self._handler.share_commits and not self._in_thread

    async def invoke(self, delivery: Delivery, body: Any) -> tuple[Any, Reply | None]:
        """Call the handler for a message; return its result, and the reply where one is asked for.

        :raises Exception: whatever it, or anything around it, raised; `HandlerAbortedError` for
            what is no `Exception`, a cancel of the running task included
        """
        result = await self._call(_handler_call(self._service, self._handler.name, delivery, body))
        return result, self.as_reply(delivery, result)

    async def invoke_batch(self, deliveries: tuple[Delivery, ...], bodies: list[Any]) -> Any:
        """Call the handler for all of them, and return what it returned; raises as `invoke`."""
        name = self._handler.name
        return await self._call(HandlerCall(self._service, name, deliveries[0], bodies, deliveries))

    def as_reply(self, delivery: Delivery, result: Any) -> Reply | None:
        """Encode the result, as a body and its content type, where the message asks for a reply.

        :raises InvalidMessageError: it cannot be written, which is a failure of the handler
        """
        return encode(result, limits=self._limits) if delivery.properties.reply_to else None

    async def wait_for_thread(self, delivery: Delivery) -> None:
        """Wait until no thread runs for the delivery any more."""
        await self._threads.wait(delivery)

    async def _call(self, call: HandlerCall) -> Any:
        handling = RUN.set(call)
        try:
            result = await self._run(call)
            if self._has_middleware and result is not None:
                self.check_result(result)
        except Exception:
            raise
        except BaseException as error:
            if is_thrown_away(error) or instruction(error) is not error:
                raise
            raise aborted(error) from error
        finally:
            try:  # noqa: SIM105 - `suppress` is three calls more for each message
                RUN.reset(handling)
            except ValueError:  # of another context: Python throws this coroutine away
                pass
        return result

    def _innermost(self) -> CallNext:
        """Return the shortest call that the handler allows: each step costs a message a little."""
        if self._store is not None:
            is_batch = self._handler.batch is not None
            if self._in_thread:
                calls = ThreadCalls(
                    self._handler,
                    cast(ThreadStore, self._store),
                    self,
                    self._call_made,
                    check_exchange=self._check_exchange,
                    tracing=self._tracing,
                )
                return calls.call_batch if is_batch else calls.call
            return self._batch_in_transaction if is_batch else self._call_in_transaction
        if self._handler.timeout is not None:
            return self._call_in_time
        return self._call_function

    def _call_in_transaction(self, call: HandlerCall) -> Awaitable[Any]:
        assert self._store is not None
        return self._store.run_once(
            self._handler.name,
            call.delivery,
            functools.partial(self._run_in_transaction, call),
            at_once=self._handler.at_once if self.shares_commits else None,
        )

    async def _run_in_transaction(self, call: HandlerCall, transaction: Any) -> Any:
        if call.delivery.expires is not None and (late := too_late(call.delivery, self._now())):
            raise late  # it waited for the transaction
        if self._is_short and self._transaction is not None:
            # What `_call_with_transaction` comes to for nearly all, without four calls on the way.
            if self._check_exchange is not None:
                transaction.check_exchange = self._check_exchange
            if self._tracing is not None:
                transaction.tracing = self._tracing
            arguments = self._arguments(call)
            arguments[self._transaction[0]] = transaction
            result = await self._handler.function(**arguments)
            if result is not None:
                self.check_result(result)
        else:
            result = await self._call_with_transaction(call, transaction)
        self.as_reply(call.delivery, result)  # one that cannot be sent must fail before the commit
        return result

    async def _batch_in_transaction(self, call: HandlerCall) -> Any:
        assert self._store is not None
        return await self._store.run_batch_once(
            self._handler.name,
            call.deliveries,
            functools.partial(self._run_batch_in_transaction, call),
        )

    async def _run_batch_in_transaction(
        self, call: HandlerCall, transaction: Any, deliveries: Sequence[Delivery]
    ) -> list[Any]:
        """Call the handler for some of a batch, and check its results while they can be undone."""
        if not (late := those_too_late(deliveries, self._now())):
            return await self._run_timely(call, transaction, deliveries)
        timely = [each for each in deliveries if each not in late]
        ran = await self._run_timely(call, transaction, timely) if timely else []
        results = dict(zip(timely, ran, strict=True)) | late
        return [results[each] for each in deliveries]

    async def _run_timely(
        self, call: HandlerCall, transaction: Any, deliveries: Sequence[Delivery]
    ) -> list[Any]:
        bodies = dict(zip(call.deliveries, call.body, strict=True))
        some = replace(
            call,
            delivery=deliveries[0],
            body=[bodies[each] for each in deliveries],
            deliveries=tuple(deliveries),
        )
        returned = await self._call_with_transaction(some, transaction)
        results = self.results_of_batch(returned, len(deliveries))
        return [self.checked(*each) for each in zip(deliveries, results, strict=True)]

    async def _call_with_transaction(self, call: HandlerCall, transaction: Any) -> Any:
        made = {type(transaction): transaction}
        if self._check_exchange is not None:
            transaction.check_exchange = self._check_exchange
        if self._tracing is not None:
            transaction.tracing = self._tracing
        return await self._call_made(call, made)

    async def _call_made(self, call: HandlerCall, made: dict[Any, Any]) -> Any:
        if self._handler.timeout is None:
            return await self._call_function(call, made)
        return await self._call_in_time(call, made)

    def results_of_batch(self, returned: Any, count: int) -> list[Any]:
        """Return a result for each message of a batch from what its handler returned.

        :raises BatchResultError: it is neither None nor a list of so many
        """
        if returned is None:
            return [None] * count
        if isinstance(returned, list | tuple) and len(returned) == count:
            return list(returned)
        is_list = isinstance(returned, list | tuple)
        raise BatchResultError(
            f"handler {self._handler.name} was given {count} messages and returned "
            f"{f'{len(returned)} of them' if is_list else type(returned).__name__}; "
            "it returns None if all are done, or a list with a result or an exception for each"
        )

    def checked(self, delivery: Delivery, result: Any) -> Any:
        """Return the result, or the failure that it is: one that cannot be sent, or has to run."""
        if isinstance(result, BaseException):
            return result
        try:
            self.check_result(result)
            self.as_reply(delivery, result)
        except BaseException as problem:  # noqa: BLE001 - whatever a result's own code raises
            return problem
        return result

    async def _call_in_time(self, call: HandlerCall, made: dict[Any, Any] | None = None) -> Any:
        timeout = self._handler.timeout
        deadline = asyncio.timeout(timeout)
        try:
            async with deadline:
                if made is not None and (in_thread := made.get(InThread)) is not None:
                    in_thread.limit(deadline, timeout)
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
        arguments = self._arguments(call)
        if self._is_plain:
            return await self._call_with(call, arguments)
        made = {} if made is None else made
        if self._transaction is not None:
            # Most of those that take a transaction take nothing that has to be closed, either.
            name, kind = self._transaction
            arguments[name] = made[kind]
            return await self._call_with(call, arguments, made.get(InThread))
        failure: list[BaseException] = []
        try:
            stack: contextlib.AsyncExitStack[bool | None] = contextlib.AsyncExitStack()
            async with stack:
                try:
                    for name, kind in plan.injected.items():
                        if name not in arguments:
                            arguments[name] = await self._value(kind, call.delivery, stack, made)
                    return await self._call_with(call, arguments, made.get(InThread))
                except BaseException as error:
                    failure.append(error)
                    raise
            # A provider has swallowed what was thrown into it; the message would be acked.
            raise failure[0]
        finally:
            failure.clear()  # with the traceback it would be a cycle

    def _arguments(self, call: HandlerCall) -> dict[str, Any]:
        """Return the arguments that nothing has to be made for."""
        arguments = dict(self._fixed)
        for name in self._taking_delivery:
            arguments[name] = call.delivery
        for name in self._taking_all:
            arguments[name] = list(call.deliveries)
        if (body := self._handler.plan.body) is not None:
            arguments[body] = call.body
        return arguments

    async def _call_with(
        self, call: HandlerCall, arguments: dict[str, Any], in_thread: InThread | None = None
    ) -> Any:
        if self._handler.is_async:
            result = await self._handler.function(**arguments)
        else:
            function = functools.partial(self._handler.function, **arguments)
            if in_thread is not None:
                function = functools.partial(in_thread.carry_out, arguments)
            run = functools.partial(contextvars.copy_context().run, function)
            result = await self._threads.run(
                call.delivery, functools.partial(told_by_future, run), in_thread
            )
        if result is not None:
            self.check_result(result)
        return result

    def check_result(self, result: Any) -> None:
        """Refuse a result that has yet to run, and an exception that was to be raised.

        :raises HandlerResultError: it is a coroutine or the like, whose body has not run, or an
            exception or a class of them, by which the message would be taken for handled
        """
        check_result(self._handler.name, result)

    async def _value(
        self, kind: Any, delivery: Delivery, stack: contextlib.AsyncExitStack, made: dict[Any, Any]
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
