"""OrderKeys, partitions, and a message that is held while its key waits."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel
from tenacity import stop_after_attempt, stop_never, wait_fixed, wait_none

from mqkit import ConfigurationError, DecodeError, Delivery, HandlerError, Queue, Retry, Service
from mqkit.consuming.ordering import HeldRetries, OrderKeys, partition_of
from mqkit.logging.delivery_log import DeliveryLog
from mqkit.logging.error_reports import REPORTS
from mqkit.message import Header, Properties
from mqkit.middleware import Observer, Observers
from mqkit.outcome import Ack, DeadLetter, DeathReason, Lost, Outcome, Requeue, RetryAfter
from mqkit.registration.handler import Handler

LOG = DeliveryLog("s", "h", reports=REPORTS)


class Body(BaseModel):
    """A body with a key."""

    account: Any = None


def handler(order_by: Any = "account", queue: Queue | None = None, **options: Any) -> Handler:
    """A registered handler that keeps an order."""
    service = Service("s", retry=Retry(stop=stop_after_attempt(3), wait=wait_none()))

    @service.handler(queue or Queue("q", partitions=4), order_by=order_by, **options)
    async def handle(body: Body) -> None:
        pass

    return service.handlers[0]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: handler(queue=Queue("q")), r"partitions=1"),
        (lambda: handler(order_by=None), "has partitions"),
        (lambda: handler(order_by="a b"), "is no field of Body"),
        (lambda: handler(order_by=7), "function of the body"),
        (lambda: handler(retry=Retry(stop=stop_never, wait=wait_fixed(1))), "inf s"),
        (
            lambda: handler(retry=Retry(stop=stop_after_attempt(4), wait=wait_fixed(700))),
            "2100 s.*1800 s",
        ),
    ],
)
def test_an_order_that_cannot_be_kept_is_refused(make: Callable[[], Handler], words: str) -> None:
    """At registration, and the error says what to do about it."""
    with pytest.raises(HandlerError, match=words):
        make()


@pytest.mark.parametrize("partitions", [0, -1, 1001, True, "3"])
def test_a_number_of_partitions_that_is_none_is_refused(partitions: Any) -> None:
    """As are exclusive queues, which have one consumer in any case."""
    with pytest.raises(ConfigurationError, match="partitions"):
        Queue("q", partitions=partitions)


def test_partitions_share_the_queues_dead_letters_and_have_one_consumer_each() -> None:
    """Whatever dies in a partition is in the dead letters of the queue that the user named."""
    queue = Queue("q", partitions=3, arguments={"x-consumer-timeout": 60_000})
    names = [each.name for each in queue.partition_queues()]
    assert names == ["q.0", "q.1", "q.2"]
    for each in (queue, *queue.partition_queues()):
        declared = each.declared_arguments()
        assert declared["x-single-active-consumer"] is True
        assert declared["x-dead-letter-routing-key"] == "q.dead"
        assert declared["x-dead-letter-strategy"] == "at-least-once"
        assert declared["x-consumer-timeout"] == 60_000
    assert Queue("q", partitions=1).partition_queues() == ()


def test_a_key_is_in_the_same_partition_everywhere() -> None:
    """It does not depend on the process, and keys are spread."""
    assert [partition_of(key, 8) for key in ("account-1", 17, ("a", 1))] == [0, 2, 3]
    spread = Counter(partition_of(f"account-{n}", 8) for n in range(8000))
    assert min(spread.values()) > 800


def in_order(
    outcomes: list[Outcome], watching: Observers | None = None, **options: Any
) -> tuple[HeldRetries, list[int]]:
    """What holds messages, over runs that end so; and the attempts that it made."""
    attempts: list[int] = []

    async def dispatch(delivery: Delivery) -> Outcome:
        attempts.append(delivery.attempt)
        return outcomes[len(attempts) - 1]

    made = handler(**options)
    keys = OrderKeys(made, lambda _: Body(account=1))
    return HeldRetries(made, dispatch, keys, LOG, observer=watching), attempts


async def test_a_failed_message_is_tried_again_before_it_is_settled() -> None:
    """Its attempts are counted as copies would; those by no fault of its own are not."""
    again = RetryAfter(0.001, ValueError(), elapsed=1.5)
    held, attempts = in_order([again, RetryAfter(0, ValueError(), counted=False), again, Ack(1)])
    delivery = Delivery()
    assert await held.dispatch(delivery) == Ack(1)
    assert attempts == [1, 2, 2, 3]
    assert delivery.headers[Header.ELAPSED] == 1500
    assert Header.FIRST_FAILURE in delivery.headers


async def test_each_retry_in_its_place_is_told_of() -> None:
    """Nothing is settled then, so that nobody would hear of it otherwise"""
    again, told = RetryAfter(0.001, ValueError()), list[Outcome]()

    class Watching(Observer):
        def held(self, handler: str, delivery: Delivery, outcome: RetryAfter) -> None:
            told.append(outcome)

    held, _ = in_order([again, again, Ack(1)], watching=Observers([Watching()]))
    await held.dispatch(Delivery())
    assert told == [again, again]


async def test_what_would_be_held_too_long_is_dead_lettered() -> None:
    """The broker would take it back, and give it to somebody else while it waits here."""
    held, _ = in_order([RetryAfter(1500, ValueError())])
    outcome = await held.dispatch(Delivery())
    assert isinstance(outcome, DeadLetter)
    assert outcome.reason is DeathReason.HELD_TOO_LONG
    assert "1500 s" in str(outcome.error)


async def test_a_stop_ends_the_wait() -> None:
    """The message is given back, and is not run again here."""
    held, attempts = in_order([RetryAfter(60, ValueError())])
    run = asyncio.create_task(held.dispatch(Delivery()))
    await asyncio.sleep(0)
    held.stop()
    assert await run == Requeue()
    assert attempts == [1]


async def test_a_lost_channel_ends_the_wait() -> None:
    """Somebody else has the message by then."""

    class Channel:
        is_open = True

    channel: Any = Channel()
    held, attempts = in_order([RetryAfter(60, ValueError())])
    run = asyncio.create_task(held.dispatch(Delivery(channel=channel)))
    await asyncio.sleep(0)
    channel.is_open = False
    assert await run == Lost()
    assert attempts == [1]


async def later(_: Any) -> str:
    """A function that is no `async def` to who looks at what wraps it."""
    return "key"


def left(_: Any) -> None:
    """Raise what is no `Exception`."""
    raise KeyboardInterrupt


def gave_up(_: Any) -> None:
    """Raise what is no `Exception`, and neither of Python's."""
    raise type("GaveUp", (BaseException,), {})


@pytest.mark.parametrize(
    "order_by",
    [
        lambda _: [],
        lambda _: frozenset("ab"),
        lambda _: float("nan"),
        lambda _: object(),
        lambda body: body.nothing,
        lambda body: later(body),  # noqa: PLW0108 - a partial is seen to be asynchronous
        lambda _: (n for n in "ab"),
        left,
        gave_up,
    ],
)
async def test_a_message_without_a_key_is_dead_lettered_unrun(order_by: Any) -> None:
    """Whether `order_by` fails, whatever it raises, or returns what is no key."""
    made = handler(order_by=order_by)
    ran: list[Delivery] = []

    async def dispatch(delivery: Delivery) -> Outcome:
        ran.append(delivery)
        return Ack()

    keys = OrderKeys(made, lambda _: Body(account=1))
    delivery = Delivery(properties=Properties(message_id="m"))
    assert keys.or_none(delivery) is None
    outcome = await HeldRetries(made, dispatch, keys, LOG).dispatch(delivery)
    assert isinstance(outcome, DeadLetter)
    assert outcome.reason is DeathReason.UNORDERED
    assert ran == []


@pytest.mark.parametrize("error", [KeyError, KeyboardInterrupt, GeneratorExit, DecodeError])
def test_nothing_rises_where_a_message_comes_in(error: type[BaseException]) -> None:
    """A body that breaks its decoder has no lane; the driver's callback, which asked, goes on."""

    def decode(_: Delivery) -> Any:
        raise error

    assert OrderKeys(handler(), decode).or_none(Delivery()) is None


def test_equal_keys_share_a_lane() -> None:
    """What equals another key waits for it, and is sent to its partition."""
    bodies = iter([Body(account=Decimal("7.0")), Body(account=Decimal("7.00")), Body(account=7)])
    keys = OrderKeys(handler(), lambda _: next(bodies))
    assert {keys.or_none(Delivery()) for _ in range(3)} == {"7"}


class Typed(BaseModel):
    """A body whose attributes are annotated."""

    names: frozenset[str]
    account: str

    @property
    def everything(self) -> list[str]:
        """No key."""
        return []


def by_all(body: Typed) -> set[str]:
    """No key."""
    return set(body.names)


@pytest.mark.parametrize("order_by", ["names", "everything", by_all])
def test_a_key_that_can_be_none_is_refused_where_it_is_annotated(order_by: Any) -> None:
    """At registration, and not message by message; what may be one is taken."""
    service = Service("s", retry=Retry.never())

    async def handle(body: Typed) -> None:
        pass

    with pytest.raises(HandlerError, match=r"order_by is of type .* a key is str"):
        service.handler(Queue("q", partitions=2), order_by=order_by)(handle)
    service.handler(Queue("q", partitions=2), order_by="account")(handle)
