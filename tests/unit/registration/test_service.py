"""Registration: what is found wrong before anything runs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import BaseModel
from tenacity import stop_after_attempt, wait_fixed

from mqkit import (
    BrokerUrl,
    ConfigurationError,
    Delivery,
    Exchange,
    HandlerError,
    MqkitError,
    Publisher,
    Queue,
    Retry,
    Runtime,
    Service,
)

NEVER = Retry.never()


class Order(BaseModel):
    """A body."""


class Engine:
    """Not a body, and not provided."""


async def handle(order: Order, delivery: Delivery, publisher: Publisher) -> None:
    """A handler without fault."""


async def two_bodies(order: Order, other: dict[str, str]) -> None: ...
async def unprovided(engine: Engine) -> None: ...
async def unannotated(order) -> None: ...  # type: ignore[no-untyped-def]  # noqa: ANN001
async def variadic(*orders: Order) -> None: ...
async def positional(order: Order, /) -> None: ...
async def undefined(order: Missing) -> None: ...  # type: ignore[name-defined]  # noqa: F821
def synchronous_body(order: Order) -> None: ...
def synchronous(order: Order, publisher: Publisher) -> None: ...


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (two_bodies, "order: Order and other: dict[str, str] could each be the body"),
        (unprovided, "argument 'engine' of type Engine is neither"),
        (unannotated, "argument 'order' has no annotation"),
        (variadic, "nothing can be matched"),
        (positional, "remove the '/'"),
        (undefined, "'Missing', which is not defined"),
        (synchronous, "argument 'publisher' is asynchronous"),
    ],
)
def test_an_argument_that_cannot_be_resolved_is_named(function: Any, words: str) -> None:
    """Registering names the handler and the argument."""
    with pytest.raises(HandlerError) as caught:
        Service("s", retry=NEVER).handler(Queue("q"))(function)
    assert words in str(caught.value)
    assert f"handler {__name__}.{function.__name__}" in str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"retry": None}, "no failure policy"),
        ({"retry": 3}, "retry takes Retry"),
        ({"prefetch": 0}, "prefetch is 1 to 65535"),
        ({"prefetch": 5, "concurrency": 6}, "concurrency is 1 to its prefetch of 5"),
        ({"bind": [Exchange("x")]}, "bind takes exchange.key"),
        ({"middleware": [len]}, "a middleware is an `async def` function"),
        ({"middleware": 3}, "middleware takes functions in a list"),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, Any], words: str) -> None:
    """Each option that cannot work is refused with its name."""
    with pytest.raises(HandlerError) as caught:
        Service("s").handler(Queue("q"), **{"retry": NEVER, **options})(handle)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"middleware": handle}, "middleware takes functions in a list"),
        ({"store": 3}, "store takes Store(...), not 3"),
        ({"limits": 3}, "limits takes Limits"),
        ({"pause": 3}, "pause takes Pause"),
    ],
)
def test_a_wrong_option_of_a_service_is_named(options: dict[str, Any], words: str) -> None:
    """It is refused where it is given, and not by what runs the service."""
    with pytest.raises(ConfigurationError) as caught:
        Service("s", **options)
    assert words in str(caught.value)


def test_what_is_no_type_cannot_be_provided() -> None:
    """A list of types cannot be looked up by an annotation."""
    with pytest.raises(HandlerError, match=r"provide takes a type, not \[\]"):
        Service("s").provide([], list)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"middleware": [3]}, "a middleware is an `async def` function"),
        ({"middleware": 3}, "middleware takes functions in a list"),
        ({"driver": 3}, "a driver is 'pika' or 'aio-pika', or what mqkit.drivers.named() returns"),
        ({"driver": "rabbit"}, "there is no driver 'rabbit'; there are pika and aio-pika"),
    ],
)
def test_a_wrong_option_of_a_run_is_named(options: dict[str, Any], words: str) -> None:
    """It is refused before anything is connected, and not when the first message comes."""
    service = Service("s", retry=NEVER)
    service.handler(Queue("q"))(handle)
    with pytest.raises(ConfigurationError) as caught:
        Runtime(service, BrokerUrl.parse("amqp://h"), **options)
    assert words in str(caught.value)


def test_a_queue_has_one_handler_and_one_declaration() -> None:
    """A second handler on a queue is refused, and told apart from one with other arguments."""
    service = Service("s", retry=NEVER)
    service.handler(Queue("q"))(handle)
    with pytest.raises(HandlerError, match="already has the handler"):
        service.handler(Queue("q"))(synchronous_body)
    with pytest.raises(HandlerError, match="is registered for queue 'q' already"):
        service.handler(Queue("q"))(handle)
    with pytest.raises(HandlerError, match="delivery_limit is 20 in one and 5 in the other"):
        service.handler(Queue("q", delivery_limit=5))(handle)
    with pytest.raises(HandlerError, match="is a Queue, not 'q'"):
        service.handler("q")(handle)  # type: ignore[arg-type]
    with pytest.raises(HandlerError, match="nowhere to go"):
        service.handler(Queue("other", dead_letters=False))(handle)
    assert len(service.handlers) == 1


def test_exchanges_are_declared_in_one_way() -> None:
    """Two handlers that bind to one exchange of different types contradict each other."""
    service = Service("s", retry=NEVER)
    service.handler(Queue("a"), bind=[Exchange("x").key("k")])(handle)
    with pytest.raises(HandlerError, match="exchange 'x' is declared in two ways"):
        service.handler(Queue("b"), bind=[Exchange("x", type="fanout").key()])(handle)


def test_the_function_stays_a_function() -> None:
    """The decorator returns the very function, so that a unit test calls it directly."""
    assert Service("s", retry=NEVER).handler(Queue("q"))(handle) is handle


def test_the_services_policy_holds_where_a_handler_states_none() -> None:
    """A handler's own policy wins over the service's."""
    own = Retry(stop=stop_after_attempt(2), wait=wait_fixed(1))
    service = Service("s", retry=NEVER)
    service.handler(Queue("a"))(handle)
    service.handler(Queue("b"), retry=own)(handle)
    assert [h.retry for h in service.handlers] == [NEVER, own]


def test_a_default_is_left_alone() -> None:
    """An argument with a default is not the body."""
    service = Service("s", retry=NEVER)

    @service.handler(Queue("q"))
    async def with_default(order: Order, limit: int = 5) -> None: ...

    assert service.handlers[0].plan.body == "order"
    assert service.handlers[0].plan.injected == {}


def test_providers_are_checked_when_they_are_given() -> None:
    """Twice the same type, an unknown scope, and a longer life than its needs are refused."""
    service = Service("s", retry=NEVER)

    async def engine() -> AsyncIterator[Engine]:
        yield Engine()

    def of_message(delivery: Delivery) -> int:
        return delivery.attempt

    service.provide(Engine, engine)
    for arguments, words in (
        ((Engine, engine, "message"), "is provided already"),
        ((int, engine, "request"), "'message' or 'service'"),
        ((int, 5, "message"), "not callable"),
        ((int, of_message, "service"), "made for one message"),
        ((str, unannotated, "message"), "no annotation"),
    ):
        kind, factory, scope = arguments
        with pytest.raises(HandlerError) as caught:
            service.provide(kind, factory, scope=scope)  # type: ignore[arg-type]
        assert words in str(caught.value)
    service.handler(Queue("q"))(unprovided)


def test_a_service_has_a_name() -> None:
    """An empty name is refused; all errors have one root."""
    with pytest.raises(ConfigurationError, match="needs a name") as caught:
        Service(" ")
    assert isinstance(caught.value, MqkitError)


@pytest.mark.parametrize("name", ["a\nb", "a\x1b[2J", "\ud800", "n" * 201])
def test_a_service_whose_name_cannot_be_sent_is_refused(name: str) -> None:
    """It is in every message as its `app-id`, and in every line of the log."""
    with pytest.raises(ConfigurationError, match="name"):
        Service(name)


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("declared", [{}, {"declare": False}])
def test_dead_letters_have_a_handler_in_the_same_service(
    first: int, declared: dict[str, Any]
) -> None:
    """Their queue is declared as it is without one, and its own dead letters have a queue."""
    service = Service("s", retry=NEVER)
    queues = [Queue("q"), Queue("q.dead", **declared)]
    for queue in (queues[first], queues[1 - first]):
        service.handler(queue)(handle)
    alone = Service("t", retry=NEVER)
    alone.handler(Queue("q"))(handle)
    (as_ever,) = (q for q in alone.topology.queues if q.name == "q.dead")
    known = {q.name: q for q in service.topology.queues}
    assert set(known) == {"q", "q.dead", "q.dead.dead"}
    assert known["q.dead"].declared_arguments() == as_ever.declared_arguments()
    assert {h.queue.name: h.queue.dead_queue for h in service.handlers} == {
        "q": "q.dead",
        "q.dead": "q.dead.dead",
    }
    (letters,) = (h for h in service.handlers if h.queue.name == "q.dead")
    assert letters.queue.declare
    declared_again = {q.name: q.declared_arguments() for q in letters.topology().queues}
    assert declared_again["q.dead"] == as_ever.declared_arguments()


@pytest.mark.parametrize(
    "options", [{"type": "classic"}, {"arguments": {"x-expires": 5}}, {"dead_letters": False}]
)
def test_dead_letters_are_kept_as_they_are_declared(options: dict[str, Any]) -> None:
    """A handler's queue that would declare them in another way is refused."""
    service = Service("s", retry=NEVER)
    service.handler(Queue("q"))(handle)
    with pytest.raises(HandlerError, match=r"'q\.dead'"):
        service.handler(Queue("q.dead", **options))(handle)


@pytest.mark.parametrize(
    ("within", "timeout", "arguments"),
    [(1800, None, {}), (1000, 900, {}), (5, None, {"x-consumer-timeout": 5000})],
)
def test_a_batch_that_the_broker_takes_back_is_refused(
    within: float, timeout: float | None, arguments: dict[str, Any]
) -> None:
    """Its first message is held while it comes together, and while it runs."""
    service = Service("s", retry=NEVER)

    async def handle_all(orders: list[Order]) -> None: ...

    queue = Queue("q", arguments=arguments)
    with pytest.raises(HandlerError, match="the broker takes it back after"):
        service.batch(queue, size=2, within=within, timeout=timeout)(handle_all)
    service.batch(queue, size=2, within=1, timeout=timeout and 1)(handle_all)


untyped: Any = Runtime


@pytest.mark.parametrize(
    ("run", "words"),
    [
        (lambda s: untyped(s, "amqp://u:planted@h/"), "is text; give BrokerUrl.parse(url)"),
        (Runtime, "has no broker"),
        (lambda _: untyped("shop"), "Runtime takes a Service, not 'shop'"),
        (lambda _: Runtime(Service("empty")), "import the module that has them"),
    ],
)
def test_a_run_of_something_else_is_refused(run: Any, words: str) -> None:
    """Where it is made; a URL that may have a password is not shown."""
    service = Service("shop", retry=NEVER)
    service.handler(Queue("q"))(handle)
    with pytest.raises(ConfigurationError) as caught:
        run(service)
    assert words in str(caught.value)
    assert "planted" not in str(caught.value)
