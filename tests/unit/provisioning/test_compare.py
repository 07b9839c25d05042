"""What differs between declarations and a broker, and what is to be done about it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mqkit import ConfigurationError, Exchange, Queue
from mqkit.broker.moving import move_names
from mqkit.provisioning.compare import compare
from mqkit.provisioning.live import Live, LiveBinding, LiveExchange, LiveQueue
from mqkit.provisioning.plan import Kind
from mqkit.provisioning.wanted import wanted_by
from tests.unit.provisioning.support import broker_with, of, service

ODD = 'a b"c/é€(x)[y]{z}+?|^$\\'
"""A name with all that means something elsewhere."""


def told(changes: object) -> list[tuple[str, str, str]]:
    """Return the kinds, and of what."""
    return [(each.kind.value, each.what, each.name) for each in changes]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "queue",
    [
        Queue("q"),
        Queue("q", type="classic"),
        Queue("q", partitions=3),
        Queue("q", arguments={"x-max-length": 5}),
        Queue(ODD),
    ],
)
def test_a_broker_that_has_all_of_it_differs_in_nothing(queue: Queue) -> None:
    """Whatever kind of queue it is."""
    wanted = of(queue)
    assert compare(wanted, broker_with(wanted.topology)) == ()


def test_what_is_missing_is_to_be_created() -> None:
    """Exchanges, queues and bindings, in the order in which they are declared."""
    assert told(compare(of(Queue("q")), Live("empty", bindings=()))) == [
        ("create", "exchange", "payments"),
        ("create", "queue", "q.dead"),
        ("create", "queue", "q"),
        ("create", "binding", "q"),
    ]


def test_a_queue_of_another_type_is_changed_with_its_risk() -> None:
    """Each difference is named, and how many messages and consumers there are."""
    live = broker_with(of(Queue("q", type="classic")).topology, messages=7, consumers=1)
    dead, queue = compare(of(Queue("q")), live)
    assert (dead.name, queue.name, queue.kind.value) == ("q.dead", "q", "change")
    assert "x-queue-type is classic on the broker, quorum here" in queue.detail
    assert "x-delivery-limit is not set on the broker, 20 here" in queue.detail
    assert "7 messages, 1 consumer, its messages are moved" in str(queue)


def test_an_exchange_of_another_type_is_left_to_somebody() -> None:
    """It cannot be moved, and what is bound to it would go with it."""
    wanted = of(Queue("q"))
    live = broker_with(wanted.topology)
    live = replace(live, exchanges={"payments": LiveExchange("payments", "direct")})
    (change,) = compare(wanted, live)
    assert (change.kind.value, change.detail) == (
        "drift",
        "type is direct on the broker, topic here",
    )


def test_a_queue_of_others_must_be_there() -> None:
    """It is not created, for it is not declared here."""
    wanted = of(Queue("q", declare=False))
    live = broker_with(of(Queue("q")).topology)
    assert compare(wanted, live) == ()
    (queue, *_) = compare(wanted, replace(live, queues={"q.dead": live.queues["q.dead"]}))
    assert (queue.kind.value, queue.name) == ("drift", "q")


def test_a_binding_that_is_not_declared_is_unused() -> None:
    """Messages come by it, which somebody may want to end."""
    wanted = of(Queue("q"))
    live = broker_with(wanted.topology)
    old = LiveBinding("q", "payments", "order.former")
    changes = compare(wanted, replace(live, bindings=(*(live.bindings or ()), old)))
    assert told(changes) == [("unused", "binding", "q")]


def test_bindings_that_differ_in_arguments_alone_are_two() -> None:
    """As they are for RabbitMQ."""
    wanted = of(Queue("q"))
    live = broker_with(wanted.topology)
    other = LiveBinding("q", "payments", "order.#", {"x-match": "all"})
    changes = compare(wanted, replace(live, bindings=(other,)))
    assert told(changes) == [("create", "binding", "q"), ("unused", "binding", "q")]


def test_another_number_of_partitions_is_a_change_of_all_keys() -> None:
    """New ones are created by it, and those that are too many are unused afterwards."""
    live = broker_with(of(Queue("q", partitions=2)).topology, messages=3)
    assert told(compare(of(Queue("q", partitions=3)), live)) == [
        ("create", "queue", "q.2"),
        ("change", "partitions", "q"),
    ]
    assert told(compare(of(Queue("q", partitions=1)), live)) == [
        ("change", "partitions", "q"),
        ("unused", "queue", "q.0"),
        ("unused", "queue", "q.1"),
    ]


def test_empty_partitions_that_nobody_consumes_are_unused_alone() -> None:
    """Nothing is to be moved any more."""
    live = broker_with(of(Queue("q", partitions=3)).topology)
    assert told(compare(of(Queue("q", partitions=2)), live)) == [("unused", "queue", "q.2")]


def test_a_queue_whose_name_ends_in_a_number_is_no_partition() -> None:
    """Unless one consumer at a time has it."""
    live = broker_with(of(Queue("q")).topology)
    queues = {**live.queues, "q.7": LiveQueue("q.7", kind="quorum")}
    assert compare(of(Queue("q")), replace(live, queues=queues)) == ()


def test_a_move_that_was_begun_is_to_be_ended() -> None:
    """Also where the queue is as it should be, or not there at that moment."""
    wanted = of(Queue("q"))
    live = broker_with(wanted.topology)
    held = move_names("q").held
    queues = {**live.queues, held: LiveQueue(held, messages=4)}
    for there in (queues, {held: queues[held], "q.dead": queues["q.dead"]}):
        (change,) = compare(wanted, replace(live, queues=there))
        assert (change.kind.value, change.messages) == ("change", 4)


def test_queues_that_only_their_service_can_declare_are_left_out() -> None:
    """An exclusive one, and one that goes while nobody consumes it."""
    exclusive = Queue("q", type="classic", durable=False, exclusive=True)
    expiring = Queue("q", arguments={"x-expires": 1000})
    for queue in (exclusive, expiring):
        wanted = of(queue)
        assert [each.name for each in wanted.left_out] == ["q"]
        assert [each.queue for each in wanted.topology.bindings] == []


def test_two_services_that_declare_one_name_in_two_ways_are_refused() -> None:
    """Before anything is asked of a broker."""
    with pytest.raises(ConfigurationError, match=r"ledger.*delivery_limit"):
        wanted_by([service(Queue("q")), service(Queue("q", delivery_limit=5))])


def test_arguments_are_compared_as_the_management_api_shows_them() -> None:
    """Numbers of a fraction, bytes and lists among them."""
    exchange = Exchange("payments", arguments={"x-a": b"b", "x-c": [1, {"d": b"e"}]})
    from mqkit.provisioning.compare import exchange_difference  # noqa: PLC0415

    there = LiveExchange("payments", "topic", arguments={"x-a": "b", "x-c": [1, {"d": "e"}]})
    assert exchange_difference(exchange, there) == ""


@pytest.mark.parametrize(
    "there",
    [
        LiveQueue("ledger.post", kind="stream"),
        LiveQueue("ledger.post", arguments={"x-queue-type": "stream"}),
        LiveQueue("ledger.post", difference="x-queue-type is stream on the broker, quorum here"),
        LiveQueue("ledger.post", difference="x-max-age is 1h on the broker, not set here"),
        LiveQueue(
            "ledger.post",
            difference="x-stream-max-segment-size-bytes is 5 on the broker, not set here",
        ),
    ],
)
def test_a_stream_is_not_moved(there: LiveQueue) -> None:
    """What is read of it stays: the move would begin, hold what is published, and never end."""
    wanted = of(Queue("ledger.post"))
    live = broker_with(wanted.topology)
    found = compare(wanted, replace(live, queues={**live.queues, "ledger.post": there}))
    assert [(each.kind, each.name) for each in found] == [(Kind.DRIFT, "ledger.post")]
    assert "a stream keeps what is read" in found[0].risk


@pytest.mark.parametrize(
    "difference", ["x-max-age is not set on the broker, 1h here", "x-max-length is 5 on the broker"]
)
def test_what_is_no_stream_is_moved(difference: str) -> None:
    """An argument that only the declaration has says nothing of what is there."""
    wanted = of(Queue("ledger.post"))
    live = broker_with(wanted.topology)
    there = LiveQueue("ledger.post", difference=difference)
    found = compare(wanted, replace(live, queues={**live.queues, "ledger.post": there}))
    assert [(each.kind, each.name) for each in found] == [(Kind.CHANGE, "ledger.post")]
