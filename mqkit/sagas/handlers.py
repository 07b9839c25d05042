"""Makes the handlers that a service registers for a saga."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

from mqkit.message import Delivery
from mqkit.registration.sagas import SagaHandler
from mqkit.sagas.declaration import Declaration, SagaStep
from mqkit.sagas.history import Received
from mqkit.sagas.running import Run, SagaRunner

_TRANSACTION, _DELIVERY = "mqkit_transaction", "mqkit_delivery"
"""Arguments that the handler takes where the method does not."""


def saga_handlers(
    declaration: Declaration, bind: Callable[[Run], Any], transaction_type: type[Any]
) -> Iterator[SagaHandler]:
    """Return the handlers of a saga, one for each of its messages.

    :param bind: makes the saga's object, whose methods go through a run
    :param transaction_type: the store's, by which its handlers ask for one
    """
    for step in declaration.steps:
        options: dict[str, Any] = dict(step.declared.options)
        if options.get("retry") is None:
            options["retry"] = declaration.options.retry
        if step.takes_body:
            options["bind"] = step.declared.bind
        runner = SagaRunner(declaration, step, bind)
        function = _function(declaration, step, runner, transaction_type)
        yield SagaHandler(function, step.queue, options)


def _function(
    declaration: Declaration, step: SagaStep, runner: SagaRunner, transaction_type: type[Any]
) -> Callable[..., Any]:
    """Make the function of a handler, whose arguments are the method's and what a saga needs."""
    injected = dict(step.injected)
    taking = {kind: name for name, kind in injected.items()}
    transaction = taking.get(transaction_type, _TRANSACTION)
    delivery = taking.get(Delivery, _DELIVERY)
    arguments = {
        step.body: step.body_type,
        **injected,
        transaction: transaction_type,
        delivery: Delivery,
    }

    async def handle(**given: Any) -> Any:
        body, came = given[step.body], given[delivery]
        received = Received(
            step.handler,
            came.message_id or "",
            came.properties.type or type(body).__name__,
        )
        own = [body] if step.takes_body else []
        others = {name: given[name] for name in injected if name in given}

        async def call(saga: Any) -> Any:
            return await getattr(saga, step.method)(*own, **others)

        return await runner.handle(body, received, given[transaction], call)

    _dress(handle, declaration.saga, step.method, arguments)
    return handle


def _dress(function: Any, saga: type[Any], name: str, arguments: dict[str, Any]) -> None:
    """Give a handler's function the name, the place and the arguments of a saga's method."""
    method = getattr(saga, name)
    function.__module__, function.__name__ = saga.__module__, name
    function.__qualname__ = f"{saga.__qualname__}.{name}"
    function.__doc__ = method.__doc__
    function.__annotations__ = arguments
    function.__wrapped__ = method  # whose code and place logs name
    function.__signature__ = inspect.Signature(
        [
            inspect.Parameter(each, inspect.Parameter.KEYWORD_ONLY, annotation=annotation)
            for each, annotation in arguments.items()
        ]
    )
