"""A handler's queue, and what it is bound to."""

from __future__ import annotations

from typing import Any

import pytest

from mqkit import Exchange, HandlerError, Queue, Retry, Service
from mqkit.topology import Source


async def coroutine(body: int) -> None: ...


events = Exchange("events")
CREATED, PAID = events.key("order.created"), events.key("order.paid")


async def of_many(bodies: list[int]) -> None: ...


@pytest.mark.parametrize(
    ("bind", "sources"),
    [
        (CREATED, (CREATED,)),
        ([CREATED, PAID], (CREATED, PAID)),
        ((CREATED, PAID), (CREATED, PAID)),
        ((), ()),
    ],
)
def test_a_queue_is_bound_to_one_source_or_many(bind: Any, sources: tuple[Source, ...]) -> None:
    """Of a handler, and of a batch."""
    service = Service("s", retry=Retry.never())
    service.handler(Queue("one"), bind=bind)(coroutine)
    service.batch(Queue("many"), size=2, within=1, bind=bind)(of_many)
    assert [handler.sources for handler in service.handlers] == [sources, sources]
    lazy = Service("t", retry=Retry.never())
    lazy.handler(Queue("one"), bind=(each for each in sources))(coroutine)
    assert lazy.handlers[0].sources == sources


@pytest.mark.parametrize(
    ("bind", "words"),
    [
        (events, "not an Exchange by itself: say which routing keys of exchange 'events'"),
        ([CREATED, events], "not an Exchange by itself"),
        (Exchange("all", type="fanout"), "say exchange.key() of exchange 'all'"),
        ("order.created", "Say Exchange(...).key('order.created')"),
        (["order.created"], "Say Exchange(...).key('order.created')"),
        ({"events": "order.created"}, "not {'events'"),
        (None, "leave it out where nothing is bound"),
        (3, "not 3"),
    ],
)
def test_what_is_no_source_is_refused(bind: Any, words: str) -> None:
    """The error says what to write in its place."""
    with pytest.raises(HandlerError) as caught:
        Service("s", retry=Retry.never()).handler(Queue("q"), bind=bind)(coroutine)
    assert f"handler {__name__}.coroutine: bind takes exchange.key(...)" in str(caught.value)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("queue", "words"),
    [
        ("orders", "is a Queue, not 'orders'; write Queue('orders')"),
        (events, '; write Queue("..."), and bind=exchange.key(...) after it'),
        (CREATED, '; write Queue("..."), and bind=exchange.key(...) after it'),
        (Queue, '; write Queue("...")'),
        (None, "is a Queue, not None"),
    ],
)
def test_what_is_no_queue_is_refused(queue: Any, words: str) -> None:
    """With what to write, where it can be guessed."""
    with pytest.raises(HandlerError) as caught:
        Service("s", retry=Retry.never()).handler(queue)(coroutine)
    assert words in str(caught.value)
