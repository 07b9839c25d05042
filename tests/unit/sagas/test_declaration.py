"""What a saga's class is refused for, when it is declared or registered."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel
from tenacity import stop_after_attempt, wait_none

from mqkit import Delivery, HandlerError, Queue, Retry, Service
from mqkit.sagas import Found, Missing, Saga, compensates, continues, on_timeout, starts
from mqkit.store import Store, Transaction
from tests.unit.sagas.support import Payment

NEVER = Retry.never()


class Note(BaseModel):
    """A message."""

    order_id: str


class State(BaseModel):
    """A state."""

    n: int = 0


def service() -> Service:
    """A service with a store that is never opened."""
    return Service("s", store=Store("sqlite:///never"), retry=NEVER)


def test_each_method_becomes_a_handler_of_its_own() -> None:
    """With its name, its queue and its policy: its own, else the saga's, else the service's."""
    one = Retry(stop=stop_after_attempt(1), wait=wait_none())
    two = Retry(stop=stop_after_attempt(2), wait=wait_none())

    class Policies(Saga[State], name="policies", retry=one):
        @starts(Queue("p.start"), by="order_id", retry=two, prefetch=7)
        async def start(self, note: Note, transaction: Transaction) -> None:
            """Say what it does."""

        @compensates("hold")
        async def undo(self, delivery: Delivery) -> None: ...

        @on_timeout("wait", queue=Queue("p.wait"), retry=two)
        async def waited(self) -> None: ...

    class Bare(Saga[State], name="bare"):
        @starts(Queue("b.start"), by="order_id")
        async def start(self, note: Note) -> None: ...

    s = service()
    assert s.saga(Policies) is Policies
    s.saga(Bare)
    where = f"{__name__}.test_each_method_becomes_a_handler_of_its_own.<locals>"
    assert [(each.name, each.queue.name, each.retry) for each in s.handlers] == [
        (f"{where}.Policies.start", "p.start", two),
        (f"{where}.Policies.undo", "saga.policies.compensate.hold", one),
        (f"{where}.Policies.waited", "p.wait", two),
        (f"{where}.Bare.start", "b.start", NEVER),
    ]
    first = s.handlers[0]
    assert first.prefetch == 7
    assert first.function.__doc__ == "Say what it does."
    assert first.code is Policies.start.__code__
    assert set(first.plan.injected.values()) == {Transaction, Delivery}


def test_what_it_is_bound_to_is_in_the_topology() -> None:
    """The queues of its timeouts and compensations are declared as well."""
    s = service()
    s.saga(Payment)
    names = {each.name for each in s.topology.queues}
    assert {"orders.risk", "saga.payment.timeout.risk", "saga.payment.compensate.hold"} <= names
    assert {"orders", "risk", "ledger"} <= {each.name for each in s.topology.exchanges}


def no_state() -> type:
    """No brackets."""

    class Wrong(Saga, name="wrong"):  # type: ignore[type-arg]
        @starts(Queue("q"), by="order_id")
        async def start(self, note: Note) -> None: ...

    return Wrong


def state_of_another_kind() -> type:
    """A dict is no model."""

    class Wrong(Saga[dict], name="wrong"):  # type: ignore[type-arg, type-var]
        @starts(Queue("q"), by="order_id")
        async def start(self, note: Note) -> None: ...

    return Wrong


def no_name() -> type:
    """A base class."""

    class Wrong(Saga[State]): ...

    return Wrong


def no_such_field() -> type:
    """The message has another one."""

    class Wrong(Saga[State], name="wrong"):
        @starts(Queue("q"), by="order")
        async def start(self, note: Note) -> None: ...

    return Wrong


def no_by() -> type:
    """A number is neither a field nor a function."""

    class Wrong(Saga[State], name="wrong"):
        @starts(Queue("q"), by=3)  # type: ignore[arg-type]
        async def start(self, note: Note) -> None: ...

    return Wrong


def one_queue_for_two() -> type:
    """Each would get some."""

    class Wrong(Saga[State], name="wrong"):
        @starts(Queue("q"), by="order_id")
        async def one(self, note: Note) -> None: ...

        @starts(Queue("q"), by="order_id")
        async def two(self, note: Note) -> None: ...

    return Wrong


def one_timeout_for_two() -> type:
    """Which of them is it?"""

    class Wrong(Saga[State], name="wrong"):
        @starts(Queue("q"), by="order_id")
        async def start(self, note: Note) -> None: ...

        @on_timeout("t", queue=Queue("one"))
        async def one(self) -> None: ...

        @on_timeout("t", queue=Queue("two"))
        async def two(self) -> None: ...

    return Wrong


def synchronous() -> type:
    """A `def` cannot await its publishes."""

    class Wrong(Saga[State], name="wrong"):
        @starts(Queue("q"), by="order_id")
        def start(self, note: Note) -> None: ...

    return Wrong


def no_message() -> type:
    """It starts with nothing."""

    class Wrong(Saga[State], name="wrong"):
        @starts(Queue("q"), by="order_id")
        async def start(self) -> None: ...

    return Wrong


def no_annotation() -> type:
    """Of what type is it?"""

    class Wrong(Saga[State], name="wrong"):
        @starts(Queue("q"), by="order_id")
        async def start(self, note) -> None: ...  # type: ignore[no-untyped-def]  # noqa: ANN001

    return Wrong


def no_start() -> type:
    """It would never begin."""

    class Wrong(Saga[State], name="wrong"):
        @continues(Queue("q"), by="order_id")
        async def go_on(self, note: Note) -> None: ...

    return Wrong


def no_queue() -> type:
    """Its name is not enough."""

    class Wrong(Saga[State], name="wrong"):
        @starts("q", by="order_id")  # type: ignore[arg-type]
        async def start(self, note: Note) -> None: ...

    return Wrong


def no_migrate() -> type:
    """Who makes a state of version 1 one of version 2?"""

    class Wrong(Saga[State], name="wrong", version=2):
        @starts(Queue("q"), by="order_id")
        async def start(self, note: Note) -> None: ...

    return Wrong


def overridden() -> type:
    """It is not said what the method of the derived class is for."""

    class Derived(Payment, name="derived"):
        async def placed(self, order: Any) -> None: ...

    return Derived


def unknown_argument() -> type:
    """Nobody provides it."""

    class Wrong(Saga[State], name="wrong"):
        @starts(Queue("q"), by="order_id")
        async def start(self, note: Note, other: Note) -> None: ...

    return Wrong


def a_name_of_every_saga() -> type:
    """Who calls `self.done` would get it."""

    class Wrong(Saga[State], name="wrong"):
        @starts(Queue("q"), by="order_id")
        async def done(self, note: Note) -> None: ...  # type: ignore[override]

    return Wrong


REFUSED: list[tuple[Callable[[], Any], str]] = [
    (no_state, "Wrong: it has no type of state; write class Wrong(Saga[State], name='wrong')"),
    (state_of_another_kind, "where State is a pydantic model, not <class 'dict'>"),
    (no_name, "Wrong: it has no name; write class Wrong(Saga[...], name='...')"),
    (no_such_field, "Wrong.start: by='order' is no field of Note; did you mean order_id?"),
    (no_by, "Wrong.start: by takes the name of a field of the message, or a function of it, not 3"),
    (one_queue_for_two, "Wrong: one and two both take the messages of queue 'q'"),
    (one_timeout_for_two, "Wrong: one and two both have @on_timeout('t'); a name has one method"),
    (synchronous, "Wrong.start: a method of a saga is `async def`"),
    (no_message, "Wrong.start: its first argument after self is the message; write async def st"),
    (no_annotation, "Wrong.start: argument 'note' has no annotation"),
    (no_start, "Wrong: no message starts it; declare one with @starts(Queue(...))"),
    (no_queue, "Wrong.start: @starts takes a Queue, not 'q'"),
    (no_migrate, "Wrong: version=2, and nothing makes its state of an older one; write @classm"),
    (overridden, "Derived: placed is declared for a message in a base of it, and not here"),
    (unknown_argument, "Wrong.start: note: Note and other: Note could each be the body"),
    (a_name_of_every_saga, "Wrong.done: every saga has a 'done' of its own"),
    (lambda: Note, "service 's': saga takes a class derived from mqkit.sagas.Saga, not <class"),
    (lambda: Payment.placed, "service 's': saga takes a class"),
]


@pytest.mark.parametrize(
    ("make", "problem"), REFUSED, ids=lambda each: getattr(each, "__name__", "")
)
def test_a_saga_that_cannot_work_is_refused(make: Callable[[], type], problem: str) -> None:
    """When it is registered; the error names the saga or its method, and says what to write."""
    with pytest.raises(HandlerError) as caught:
        service().saga(make())
    assert problem in str(caught.value)


def test_a_service_without_a_store_is_refused() -> None:
    """Nothing would keep the state."""
    with pytest.raises(HandlerError, match="Payment: a store keeps its state, and service 's' has"):
        Service("s", retry=NEVER).saga(Payment)


def test_two_sagas_of_one_name_are_refused() -> None:
    """They would find each other's states."""

    class Other(Saga[State], name="payment"):
        @starts(Queue("other"), by="order_id")
        async def start(self, note: Note) -> None: ...

    s = service()
    s.saga(Payment)
    with pytest.raises(HandlerError, match="Other: its name, 'payment', is that of Payment"):
        s.saga(Other)


def test_a_store_that_keeps_no_sagas_is_refused() -> None:
    """One that somebody wrote for tests, say."""

    class Other:
        async def run_once(self) -> None: ...

    with pytest.raises(HandlerError, match="the store of service 's' keeps no sagas"):
        Service("s", store=Other(), retry=NEVER).saga(Payment)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"name": ""}, "name is a name"),
        ({"name": "x" * 101}, "its name has over 100 characters"),
        ({"name": "n", "version": 0}, "version is 1"),
        ({"name": "n", "keep": -1}, "keep is seconds"),
        ({"name": "n", "retry": 3}, "retry takes"),
        ({"name": "n", "publishes": "order"}, "publishes takes a list of types"),
    ],
)
def test_an_option_that_a_class_cannot_have_is_refused(
    options: dict[str, Any], problem: str
) -> None:
    """When the class is defined."""
    with pytest.raises(HandlerError, match=problem):
        types.new_class("Wrong", (Saga[State],), options)


def start_with(**options: Any) -> Any:
    """A decorator with options that its types would refuse."""
    return starts(Queue("q"), by="n", **options)


def go_on_with(**options: Any) -> Any:
    """A decorator with options that its types would refuse."""
    return continues(Queue("q"), by="n", **options)


undo: Any = compensates


@pytest.mark.parametrize(
    ("declare", "problem"),
    [
        (start_with(existing="run"), "existing takes Found.IGNORE"),
        (go_on_with(missing=Found.RUN), "missing takes Missing"),
        (go_on_with(completed=Missing.RETRY), "completed takes Found"),
        (start_with(retrys=NEVER), "no option 'retrys'; besides its own"),
        (on_timeout(""), "on_timeout is a name, not ''"),
        (undo(3), "compensates is a name, not 3"),
        (lambda f: start_with()(on_timeout("t")(f)), "it has @on_timeout already"),
        (undo("t", publishes=[3]), "publishes takes a list of types of messages"),
        (lambda _: on_timeout("t")(State), "@on_timeout is for a method of a saga, not"),
    ],
)
def test_a_decorator_refuses_what_it_cannot_take(
    declare: Callable[[Callable[..., Any]], Any], problem: str
) -> None:
    """At once, and naming the method."""

    async def method(self: Any, note: Note) -> None: ...

    with pytest.raises(HandlerError) as caught:
        declare(method)
    assert problem in str(caught.value)
