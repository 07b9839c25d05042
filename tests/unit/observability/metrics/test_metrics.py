"""What is counted of messages, and under which names and labels."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mqkit import BlockedError, Delivery, NackedError, Reject, UnroutableError
from mqkit.clock import monotonic
from mqkit.errors import AuthenticationError, InvalidMessageError, PublishError
from mqkit.message import Message, Properties
from mqkit.middleware import ServiceReading, StoreReading
from mqkit.observability.metrics import Buckets, Metrics
from mqkit.observability.metrics.families import BY_NAME
from mqkit.observability.metrics.metrics import OWNED_FOR
from mqkit.observability.metrics.results import RESULTS, result_of
from mqkit.observability.metrics.snapshot import Number, Times
from mqkit.observability.metrics.waits import AHEAD, OLDEST, STAMP
from mqkit.outcome import Ack, DeadLetter, DeathReason, Lost, Outcome, Requeue, RetryAfter
from mqkit.pause import Status
from tests.unit.observability.readings import consumer, reading

ERROR = RuntimeError("on purpose")
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
POST = ("ledger", "post", "q")

RETRY = RetryAfter(1.0, ERROR)
DEAD = DeadLetter(DeathReason.REJECTED, ERROR)


def metrics(said: ServiceReading | None = None, **options: Any) -> Metrics:
    """Those of a service that runs, whose wall clock stands still."""
    made = Metrics(clock=lambda: NOW, **options)
    made.running(lambda: said or reading())
    return made


def numbers(of: Metrics, name: str) -> dict[tuple[str, ...], float]:
    """All that there is of a counter or a gauge, by its labels."""
    return {each.labels: each.value for each in of.snapshot().numbers if each.name == name}


def above_zero(of: Metrics, name: str) -> dict[tuple[str, ...], float]:
    """The same without the zeros."""
    return {labels: value for labels, value in numbers(of, name).items() if value}


def counts(of: Metrics, name: str, labels: tuple[str, ...] = POST) -> tuple[list[int], float]:
    """The buckets that have any, by their numbers, and the sum."""
    found = {(each.name, each.labels): each for each in of.snapshot().times}[name, labels]
    return [n for n, count in enumerate(found.counts) for _ in range(count)], found.seconds


def waited(
    seconds: float | None, *, ms: int | None = None, later: float = 0.0, **said: Any
) -> Delivery:
    """A delivery whose run began just now, so long after its publish, or somewhat later."""
    timestamp = None if seconds is None else NOW - timedelta(seconds=seconds)
    headers: Any = {} if ms is None else {STAMP: ms}
    began = monotonic() + later
    properties = Properties(timestamp=timestamp, headers=headers)
    return Delivery(queue="q", properties=properties, ran=(began, began), **said)


@pytest.mark.parametrize(
    ("outcome", "name"),
    [
        (Ack(), "acked"),
        (RETRY, "retried"),
        (DEAD, "dead_lettered"),
        (Requeue(), "requeued"),
        (Lost(), "lost"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_each_outcome_is_counted(outcome: Outcome, name: str) -> None:
    """By handler and queue, whether settled alone or with others"""
    counted = metrics()
    counted.settled("post", Delivery(queue="q"), outcome)
    counted.settled_together("post", [(Delivery(queue="q"), outcome)] * 2)
    assert above_zero(counted, "mqkit_handled_total") == {(*POST, name): 3}
    assert above_zero(counted, "mqkit_retries_total") == ({POST: 3} if outcome is RETRY else {})
    dead = {(*POST, "rejected"): 3} if outcome is DEAD else {}
    assert above_zero(counted, "mqkit_dead_letters_total") == dead


def test_a_retry_in_its_place_is_a_retry_and_a_run_and_settles_nothing() -> None:
    """An ordered handler's message is held here until its next attempt, and then settled once"""
    counted = metrics()
    delivery = Delivery(queue="q", ran=(1.0, 1.5))
    counted.held("post", delivery, RETRY)
    assert numbers(counted, "mqkit_retries_total") == {POST: 1}
    assert above_zero(counted, "mqkit_handled_total") == {}
    delivery.attempt, delivery.ran = 2, (3.0, 3.25)
    counted.settled_together("post", [(delivery, Ack())])
    assert counts(counted, "mqkit_handler_seconds")[1] == 0.75


def test_all_series_of_a_handler_are_there_before_its_first_message() -> None:
    """A rate needs a value to rise from, and an alert on none at all needs a zero"""
    counted = metrics(reading(consumer(), consumer(handler="pay", queue="p", consumed="p")))
    handled = numbers(counted, "mqkit_handled_total")
    assert set(handled.values()) == {0}
    assert {labels[1] for labels in handled} == {"post", "pay"}
    assert len(handled) == 2 * 5
    assert len(numbers(counted, "mqkit_publishes_total")) == len(RESULTS)


def test_there_are_no_metrics_before_the_service_has_a_name() -> None:
    """A label that is guessed would be a series of its own for ever"""
    counted = Metrics()
    counted.settled("post", Delivery(queue="q"), Ack())
    assert counted.snapshot().numbers == ()
    counted.running(reading)
    assert above_zero(counted, "mqkit_handled_total") == {(*POST, "acked"): 1}


def test_a_run_is_in_the_bucket_of_its_seconds() -> None:
    """The bound belongs to its bucket, and what is above the last one is in one more"""
    counted = metrics(buckets=Buckets(handler=(0.1, 1)))
    for ended in (0.05, 0.1, 0.5, 1.0, 7.0):
        counted.settled_together("post", [(Delivery(queue="q", ran=(0.0, ended)), Ack())])
    assert counts(counted, "mqkit_handler_seconds") == ([0, 0, 1, 1, 2], 8.65)


def test_a_batch_is_one_run_and_each_of_its_messages_has_waited() -> None:
    """The others of a batch have no end of a run of their own"""
    counted = metrics(buckets=Buckets(queue=(1, 100)))
    first, second = waited(50), waited(50)
    assert second.ran is not None
    second.ran = (second.ran[0], None)
    counted.settled_together("post", [(first, Ack()), (second, Ack())])
    assert len(counts(counted, "mqkit_handler_seconds")[0]) == 1
    assert counts(counted, "mqkit_queue_seconds")[0] == [1, 1]


@pytest.mark.parametrize(
    ("delivery", "seconds"),
    [
        (waited(50), 50),
        (waited(50, ms=round(NOW.timestamp() * 1000) - 2_500), 2.5),
        (waited(None, ms=round(NOW.timestamp() * 1000) - 2_500), 2.5),
        (waited(50, ms=round(NOW.timestamp() * 1000) - 53_000), 50),
        (waited(-AHEAD / 2), 0),
        (waited(-AHEAD * 2), None),
        (waited(OLDEST + 10), None),
        (waited(None), None),
        (waited(None, ms=-(10**30)), None),
        (waited(50, attempt=2), None),
        (waited(50, redelivered=True), None),
        (Delivery(queue="q", properties=Properties(timestamp=NOW)), None),
    ],
    ids=[
        "timestamp",
        "the broker's first",
        "the broker's alone",
        "published later",
        "a clock that is ahead",
        "far in the future",
        "far in the past",
        "none",
        "nonsense",
        "a retry",
        "came again",
        "did not run",
    ],
)
def test_the_time_in_queue_is_from_the_publish_to_the_first_run(
    delivery: Delivery, seconds: float | None
) -> None:
    """By the broker's stamp if there is one, else the publisher's; what tells nothing counts not"""
    counted = metrics(buckets=Buckets(queue=(1, 10, 100)))
    if delivery.ran is not None:  # the parameters were made a while ago
        delivery.ran = (monotonic(), monotonic())
    counted.settled_together("post", [(delivery, Ack())])
    found, total = counts(counted, "mqkit_queue_seconds")
    if seconds is None:
        assert found == []
    else:
        assert total == pytest.approx(seconds, abs=0.1)
        assert len(found) == 1


def test_waits_that_are_counted_together_are_those_of_each_alone() -> None:
    """Whatever stands beside a message: another second, a stamp, no timestamp, a clock ahead"""
    odd: list[dict[str, Any]] = [
        {"seconds": 5},
        {"seconds": 5, "ms": round(NOW.timestamp() * 1000) - 50_000},
        {"seconds": 5, "later": 0.5},
        {"seconds": 5, "later": 30},
        {"seconds": 5},
        {"seconds": 5, "later": -4.5},
        {"seconds": 50},
        {"seconds": 50, "ms": round(NOW.timestamp() * 1000) - 2_500},
        {"seconds": None},
        {"seconds": -30},
        {"seconds": -3000},
        {"seconds": 500},
        {"seconds": OLDEST + 10},
        {"seconds": 5, "attempt": 2},
        {"seconds": 5, "redelivered": True},
    ]
    one_by_one, at_once = (metrics(buckets=Buckets(queue=(1, 10, 100))) for _ in range(2))
    mixed = [waited(**each) for each in random.Random(7).choices(odd, k=300)]
    settled = [(each, Ack()) for each in [*mixed, *sorted(mixed, key=lambda each: each.attempt)]]
    settled += [(waited(5), Ack())] * 5
    at_once.settled_together("post", settled)
    for each in settled:
        one_by_one.settled("post", *each)
    found, together = counts(at_once, "mqkit_queue_seconds")
    alone, seconds = counts(one_by_one, "mqkit_queue_seconds")
    assert found == alone
    assert set(found) == {0, 1, 2, 3}
    assert together == pytest.approx(seconds, rel=1e-3)  # the wall clock stands still


def error(kind: type[PublishError]) -> PublishError:
    """One of that kind."""
    return kind("on purpose", exchange="e", routing_key="k", message_id="m")


def test_publishes_are_counted_by_result_and_confirms_timed() -> None:
    """What fails has a result, and no time of a confirm"""
    counted = metrics(buckets=Buckets(confirm=(0.1, 1)))
    message = Message("e", "k", b"")
    counted.publish_ended(message, 0.05, None)
    counted.publish_ended(message, 7.0, None)
    counted.publish_ended(message, 30.0, error(BlockedError))
    assert above_zero(counted, "mqkit_publishes_total") == {
        ("ledger", "confirmed"): 2,
        ("ledger", "blocked"): 1,
    }
    assert counts(counted, "mqkit_confirm_seconds", ("ledger",)) == ([0, 2], 7.05)


@pytest.mark.parametrize(
    ("raised", "result"),
    [
        (None, "confirmed"),
        (error(UnroutableError), "unroutable"),
        (error(NackedError), "nacked"),
        (AuthenticationError("no"), "connection_lost"),
        (InvalidMessageError("no"), "invalid"),
        (asyncio.CancelledError(), "cancelled"),
        (ValueError("4111111111111111"), "failed"),
        (error(PublishError), "failed"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_every_end_of_a_publish_has_one_of_a_few_results(
    raised: BaseException | None, result: str
) -> None:
    """Also an error that nobody knows: the label never grows"""
    assert result_of(raised) == result
    assert result in RESULTS


def test_what_is_read_of_a_service_is_there_when_it_is_asked_for() -> None:
    """Connections, consumers, partitions and the store, each as its reading says"""
    partitions = [
        consumer(consumed="q.0", is_partition=True, in_flight=2, settled_ago=None),
        consumer(consumed="q.1", is_partition=True, settled_ago=OWNED_FOR - 1),
        consumer(consumed="q.2", is_partition=True, settled_ago=OWNED_FOR + 1),
        consumer(Status.PAUSED, consumed="q.3", is_partition=True, pauses=3),
    ]
    store = StoreReading(7, 1, 12.5, {("Payment", "running"): 4})
    counted = metrics(reading(*partitions, has_store=True, store=store))
    assert numbers(counted, "mqkit_in_flight") == {POST: 2}
    assert numbers(counted, "mqkit_pauses_total") == {POST: 3}
    assert numbers(counted, "mqkit_partitions_owned") == {POST: 2}
    assert above_zero(counted, "mqkit_consumers") == {(*POST, "consuming"): 3, (*POST, "paused"): 1}
    assert numbers(counted, "mqkit_reconnects_total") == {
        ("ledger", "consume"): 0,
        ("ledger", "publish"): 2,
    }
    assert numbers(counted, "mqkit_blocked_seconds_total")["ledger", "publish"] == 1.5
    assert numbers(counted, "mqkit_store_up") == {("ledger",): 1}
    assert numbers(counted, "mqkit_outbox_messages") == {("ledger",): 7}
    assert numbers(counted, "mqkit_outbox_oldest_seconds") == {("ledger",): 12.5}
    assert numbers(counted, "mqkit_sagas") == {("ledger", "Payment", "running"): 4}


@pytest.mark.parametrize(
    ("said", "there"),
    [
        (reading(), set[str]()),
        (reading(has_store=True, store=None), {"mqkit_store_up"}),
        (reading(has_store=True, store=StoreReading()), {"mqkit_store_up"}),
    ],
    ids=["no store", "away", "of the application's own"],
)
def test_of_a_store_there_is_what_is_known(said: ServiceReading, there: set[str]) -> None:
    """A number that nobody knows is missing, and not zero"""
    names = {each.name for each in metrics(said).snapshot().numbers}
    assert {n for n in names if n.startswith(("mqkit_store", "mqkit_outbox"))} == there


def test_every_metric_is_of_a_family_and_has_its_labels() -> None:
    """The families are what the dashboard, the alerts and the guide are held to"""
    store = StoreReading(7, 1, 12.5, {("Payment", "running"): 4})
    said = reading(consumer(is_partition=True), has_store=True, store=store)
    found = metrics(said).snapshot()
    series: list[Number | Times] = [*found.numbers, *found.times]
    wrong = [each.name for each in series if len(each.labels) != 1 + len(BY_NAME[each.name].labels)]
    assert wrong == []
    assert {each.name for each in series} == set(BY_NAME)


def test_nothing_of_a_message_or_an_error_is_in_a_metric() -> None:
    """Neither its body, its ids, its key and headers, nor what an error says"""
    secret = "4111111111111111"
    properties = Properties(
        message_id=secret,
        correlation_id=secret,
        headers={"token": secret, STAMP: 5},
        app_id=secret,
        user_id=secret,
        type=secret,
    )
    delivery = Delivery(
        secret.encode(), properties, exchange=secret, routing_key=secret, queue="q", ran=(0, 1)
    )
    counted = metrics()
    for outcome in (
        Ack(secret),
        RetryAfter(1, ValueError(secret)),
        DeadLetter(DeathReason.REJECTED, Reject(secret)),
    ):
        counted.settled("post", delivery, outcome)
    counted.held("post", delivery, RetryAfter(1, ValueError(secret)))
    message = Message(secret, secret, secret.encode(), properties)
    counted.publish_ended(message, 1.0, None)
    counted.publish_ended(message, 1.0, ValueError(secret))
    text, _ = counted.text()
    assert secret.encode() not in text
    assert b'outcome="dead_lettered"' in text
