"""Exchanges, queues and bindings as values."""

from __future__ import annotations

import pytest

from mqkit import ConfigurationError, Exchange, Queue
from mqkit.topology import UNLIMITED_DELIVERIES, Topology, dead_letter_queue


def test_a_queue_is_safe_unless_stated_otherwise() -> None:
    """A plain Queue is a durable quorum queue that dead-letters at least once, with a limit."""
    queue = Queue("q")
    assert queue.durable
    assert queue.declared_arguments() == {
        "x-queue-type": "quorum",
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": "q.dead",
        "x-delivery-limit": 20,
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }


def test_a_dead_letter_queue_never_drops() -> None:
    """It has no dead letters of its own and no limit that reading it could reach."""
    arguments = dead_letter_queue(Queue("q")).declared_arguments()
    assert arguments == {"x-queue-type": "quorum", "x-delivery-limit": UNLIMITED_DELIVERIES}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Queue(""), "needs a name"),
        (lambda: Queue("q" * 191), "over 190 bytes"),
        (lambda: Queue("q" * 187, partitions=101), "partitions' names"),
        (lambda: Queue("ü" * 94 + "q", partitions=2), "partitions' names"),
        (lambda: Queue("amq.q"), "belong to the broker"),
        (
            lambda: Queue("q", type="lazy"),  # type: ignore[arg-type]
            "not 'lazy'",
        ),
        (lambda: Queue("q", durable=False), "a quorum queue is durable"),
        (lambda: Queue("q", exclusive=True), "a quorum queue is durable"),
        (lambda: Queue("q", delivery_limit=0), "1 or more"),
        (lambda: Queue("q", arguments={"x-overflow": "drop-head"}), "x-overflow is set by mqkit"),
        (lambda: Queue("q\n"), "one line of text"),
        (lambda: Queue("a\rb"), "one line of text"),
        (lambda: Queue("a\0b"), "one line of text"),
        (lambda: Queue("q\t", declare=False), "one line of text"),
        (lambda: Queue("a\u2028b"), "one line of text"),
        (lambda: Queue("a\ud800"), "one line of text"),
        (lambda: Queue("q", type="classic", delivery_limit=3), "for quorum queues"),
        (lambda: Queue("q", delivery_limit=2.5), "whole number"),  # type: ignore[arg-type]
        (lambda: Queue("q", delivery_limit="3"), "whole number"),  # type: ignore[arg-type]
        (lambda: Queue("q", delivery_limit=True), "whole number"),
        (lambda: Exchange("x\n"), "one line of text"),
        (lambda: Exchange("\x7f"), "one line of text"),
        (lambda: Exchange("x").key("\ud800"), "UTF-8 cannot write"),
        (lambda: Exchange("x").key(None), "a routing key is text"),  # type: ignore[arg-type]
        (lambda: Exchange(""), "needs a name"),
        (
            lambda: Exchange("x", type="delayed"),  # type: ignore[arg-type]
            "not 'delayed'",
        ),
        (lambda: Exchange("amq.topic"), "declare=False"),
        (lambda: Exchange("x").key("k" * 256), "over 255 bytes"),
    ],
)
def test_what_cannot_be_declared_is_refused(make: object, words: str) -> None:
    """A name or a combination that the broker would refuse is an error at once."""
    with pytest.raises(ConfigurationError) as caught:
        make()  # type: ignore[operator]
    assert words in str(caught.value)


@pytest.mark.parametrize("name", ["über weisung 😀", "a..b", "q.", " q ", "q/%2F?#", "\u202eq"])
def test_a_name_in_one_line_is_taken(name: str) -> None:
    """RabbitMQ keeps it as it is."""
    assert Queue(name).name == Exchange(name).name == name


def test_one_name_in_two_ways_is_a_contradiction() -> None:
    """Merging names what differs, and merging the same twice changes nothing."""
    exchange = Exchange("x")
    one = Topology.of_queue(Queue("a"), [exchange.key("k")])
    assert one.merge(one) == one
    other = Topology.of_queue(Queue("b"), [Exchange("x", type="fanout").key()])
    with pytest.raises(ConfigurationError, match="type is 'topic' in one and 'fanout'"):
        one.merge(other)
    with pytest.raises(ConfigurationError, match="type is 'topic' in one and 'fanout'"):
        Topology.of_queue(Queue("a"), [exchange.key("k"), Exchange("x", type="fanout").key()])


def test_a_name_is_as_long_as_its_partitions_let_it_be() -> None:
    """The one partition of a queue is the queue itself; of several, each has its number."""
    for queue in (Queue("q" * 190, partitions=1), Queue("q" * 186, partitions=1000)):
        assert max(len(each.name) for each in (queue, *queue.partition_queues())) == 190


def test_being_mandatory_is_no_part_of_a_declaration() -> None:
    """One service may expect a listener and another not; the exchange is the same."""
    exchanges = (Exchange("events"), Exchange("events", mandatory=False))
    assert exchanges[0] == exchanges[1]
    assert Topology().merge(Topology(exchanges=exchanges)).exchanges == exchanges[:1]
    with pytest.raises(ConfigurationError) as caught:
        Topology().merge(Topology(exchanges=(exchanges[1], Exchange("events", type="fanout"))))
    assert "two ways: type is 'topic' in one and 'fanout' in the other" in str(caught.value)
    assert "mandatory" not in str(caught.value)
