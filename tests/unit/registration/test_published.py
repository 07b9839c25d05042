"""What a service says that it publishes to, and what it may publish to then."""

from __future__ import annotations

from typing import Any

import pytest

from mqkit import ConfigurationError, Exchange, HandlerError, Queue, Retry, Service
from mqkit.registration.published import PublishCheck

EVENTS = Exchange("events", mandatory=False)
ORDERS = Exchange("orders")


def service(**options: Any) -> Service:
    """A service with a binding to `orders`."""
    made = Service("ledger", retry=Retry.never(), **options)

    @made.handler(Queue("ledger.post"), bind=[ORDERS.key("#")])
    async def post(order: dict[str, str]) -> None: ...

    return made


def test_what_a_service_publishes_to_is_declared_with_the_rest() -> None:
    """Also where handlers on each other's dead letters make the topology anew."""
    made = service(publishes=[EVENTS, EVENTS])
    assert [each.name for each in made.topology.exchanges] == ["events", "orders"]

    @made.handler(Queue("ledger.post.dead"))
    async def look(order: dict[str, str]) -> None: ...

    assert [each.name for each in made.topology.exchanges] == ["events", "orders"]


@pytest.mark.parametrize("exchange", [EVENTS, Exchange("events"), ORDERS])
def test_what_is_stated_or_bound_may_be_published_to(exchange: Exchange) -> None:
    """By any value that declares it alike."""
    check = service(publishes=[EVENTS]).check_exchange
    assert isinstance(check, PublishCheck)
    check(exchange)


def test_what_is_not_stated_may_not_be_published_to() -> None:
    """The error says what to write."""
    check = service(publishes=[]).check_exchange
    assert check is not None
    with pytest.raises(ConfigurationError) as caught:
        check(EVENTS)
    assert str(caught.value) == (
        "service 'ledger' publishes to exchange 'events', which is neither in its publishes= nor "
        "bound by a handler: add it to Service('ledger', publishes=[...])"
    )
    with pytest.raises(ConfigurationError) as caught:
        check(Exchange("orders", durable=False))
    assert str(caught.value) == (
        "service 'ledger' publishes to exchange 'orders', and declares it in another way: durable "
        "is True in one and False in the other; use one Exchange for both"
    )


def test_a_service_that_states_nothing_may_publish_to_anything() -> None:
    """As it always could."""
    assert service().check_exchange is None


def test_two_declarations_of_an_exchange_are_refused_at_registration() -> None:
    """In `publishes` by itself, and of a binding that comes later."""
    otherwise = Exchange("orders", type="fanout")
    with pytest.raises(ConfigurationError, match="service 'ledger': publishes: exchange 'orders'"):
        service(publishes=[ORDERS, otherwise])
    with pytest.raises(HandlerError, match="exchange 'orders' is declared in two ways: type is"):
        service(publishes=[otherwise])


@pytest.mark.parametrize(
    ("publishes", "words"),
    [
        (EVENTS, "publishes takes a list of Exchange, not Exchange"),
        (5, "publishes takes a list of Exchange, not 5"),
        (["events"], "publishes takes Exchange(...), not 'events'"),
        (EVENTS.carries("a", int), "publishes takes a list of Exchange, not Sent"),
        ([EVENTS.key("a")], "publishes takes Exchange(...), not Source"),
    ],
)
def test_what_is_no_exchange_is_refused(publishes: Any, words: str) -> None:
    """A name says not how to declare it."""
    with pytest.raises(ConfigurationError) as caught:
        service(publishes=publishes)
    assert words in str(caught.value)


def test_what_an_exchange_carries_is_kept_and_its_exchange_declared() -> None:
    """It says what is published, and is an exchange like any other besides; a name is no type."""
    sent = EVENTS.carries("a.*", int, str)
    service = Service("shop", retry=Retry.never(), publishes=[sent])
    assert service.sent == (sent,)
    assert service.published == (EVENTS,)
    assert service.topology.exchanges == (EVENTS,)
    with pytest.raises(ConfigurationError, match="carries takes the types of bodies, not 'Order'"):
        EVENTS.carries("a", "Order")
