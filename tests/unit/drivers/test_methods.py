"""The methods that every driver's channel sends alike, and its list of consumers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pamqp import commands
from pika import amqp_object, spec

from mqkit.drivers import methods
from mqkit.drivers.base import Closed, QueueState
from mqkit.drivers.methods import MethodChannel


class FakeChannel(MethodChannel):
    """Notes what is sent, as its bytes, with the answers that it may have."""

    def __init__(self) -> None:
        super().__init__(asyncio.get_running_loop().create_future(), {})
        self.sent: list[tuple[str, bytes, tuple[type, ...]]] = []

    async def _call(self, method: amqp_object.Method, *answers: type[amqp_object.Method]) -> Any:
        self.sent.append((method.NAME, b"".join(method.encode()), answers))
        return spec.Queue.DeclareOk("q", 7, 2)


@pytest.fixture
async def channel() -> FakeChannel:
    return FakeChannel()  # type: ignore[abstract]  # what it lacks is not called


def written(method: amqp_object.Method, answer: type) -> tuple[str, bytes, tuple[type, ...]]:
    """As `FakeChannel` notes it."""
    return method.NAME, b"".join(method.encode()), (answer,)


async def test_an_exchange_is_declared(channel: FakeChannel) -> None:
    """Durable where nothing else is said, and with all that is said."""
    await channel.declare_exchange("x", "topic")
    await channel.declare_exchange(
        "x",
        "fanout",
        durable=False,
        auto_delete=True,
        internal=True,
        arguments={"a": 1},
        passive=True,
    )
    assert channel.sent == [
        written(spec.Exchange.Declare(0, "x", "topic", durable=True), spec.Exchange.DeclareOk),
        written(
            spec.Exchange.Declare(0, "x", "fanout", True, False, True, True, False, {"a": 1}),
            spec.Exchange.DeclareOk,
        ),
    ]


async def test_a_queue_is_declared(channel: FakeChannel) -> None:
    """Durable where nothing else is said; its name, messages and consumers are returned."""
    assert await channel.declare_queue("q") == QueueState("q", 7, 2)
    await channel.declare_queue(
        "", durable=False, exclusive=True, auto_delete=True, arguments={"a": 1}, passive=True
    )
    assert channel.sent == [
        written(spec.Queue.Declare(0, "q", durable=True), spec.Queue.DeclareOk),
        written(
            spec.Queue.Declare(0, "", True, False, True, True, False, {"a": 1}),
            spec.Queue.DeclareOk,
        ),
    ]


class Counting(FakeChannel):
    """Answers a queue's counts one after the other, each after some seconds of a clock."""

    def __init__(
        self, answers: list[tuple[float, int, int]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        super().__init__()
        self._answers = answers
        self._now = 0.0
        monkeypatch.setattr(methods, "monotonic", lambda: self._now)

    async def _call(self, method: amqp_object.Method, *answers: type[amqp_object.Method]) -> Any:
        await super()._call(method, *answers)
        seconds, messages, consumers = self._answers.pop(0)
        self._now += seconds
        return spec.Queue.DeclareOk("q", messages, consumers)


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([(0.25, 0, 0), (0.3, 0, 0), (0.01, 7, 1)], (7, 1)),
        ([(0.25, 0, 0), (0.01, 0, 0)], (0, 0)),
        ([(0.01, 0, 0)], (0, 0)),
        ([(0.9, 7, 0)], (7, 0)),
        ([(0.9, 0, 1)], (0, 1)),
        ([(0.3, 0, 0)] * methods.COUNT_TRIES, (0, 0)),
    ],
    ids=["counted late", "empty", "empty at once", "messages", "consumers", "always late"],
)
async def test_what_the_broker_could_not_count_is_asked_again(
    answers: list[tuple[float, int, int]],
    expected: tuple[int, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """RabbitMQ says 0 where a quorum queue's leader tells it nothing for a quarter of a second."""
    channel = Counting(answers, monkeypatch)  # type: ignore[abstract]
    assert await channel.declare_queue("q", passive=True) == QueueState("q", *expected)
    assert not answers


async def test_a_declaration_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody asks it for counts, and a new queue of a busy broker takes its time."""
    channel = Counting([(0.9, 0, 0)], monkeypatch)  # type: ignore[abstract]
    assert await channel.declare_queue("q") == QueueState("q", 0, 0)


async def test_bindings_and_prefetch_are_sent(channel: FakeChannel) -> None:
    """Queues and exchanges are bound with arguments, and the prefetch is each consumer's own."""
    await channel.bind_queue("q", "x", "k", {"a": 1})
    await channel.bind_exchange("to", "from", "k")
    await channel.qos(50)
    assert channel.sent == [
        written(spec.Queue.Bind(0, "q", "x", "k", False, {"a": 1}), spec.Queue.BindOk),
        written(spec.Exchange.Bind(0, "to", "from", "k", False, {}), spec.Exchange.BindOk),
        written(spec.Basic.Qos(0, 50, False), spec.Basic.QosOk),
    ]


async def test_a_consumer_is_told_once_that_the_broker_cancelled_it(channel: FakeChannel) -> None:
    """Nobody is told of a cancel of what was forgotten, or of another consumer."""
    told: list[str] = []
    one = channel._add_consumer(lambda _: None, lambda: told.append("one"))
    two = channel._add_consumer(lambda _: None, lambda: told.append("two"))
    assert set(channel._on_delivery) == {one, two}
    channel._on_broker_cancel(one)
    channel._on_broker_cancel(one)
    channel._remove_consumer(two)
    channel._on_broker_cancel(two)
    assert told == ["one"]
    assert channel._on_delivery == {}


async def test_a_closed_channel_says_why(channel: FakeChannel) -> None:
    """The broker's code and words, once it is closed."""
    error = channel._closed_error()
    assert (error.code, error.args) == (0, Closed(0, "it is closing").error().args)
    channel.closed.set_result(Closed(404, "no queue 'q'"))
    error = channel._closed_error()
    assert (error.code, error.args) == (404, Closed(404, "no queue 'q'").error().args)


@pytest.mark.parametrize(
    "answer",
    [
        spec.Channel.OpenOk,
        spec.Exchange.DeclareOk,
        spec.Exchange.BindOk,
        spec.Queue.DeclareOk,
        spec.Queue.BindOk,
        spec.Basic.QosOk,
        spec.Basic.ConsumeOk,
        spec.Basic.CancelOk,
        spec.Basic.GetOk,
        spec.Basic.GetEmpty,
        spec.Confirm.SelectOk,
    ],
)
def test_an_answer_is_the_same_to_both_libraries(answer: type[amqp_object.Method]) -> None:
    """The aio-pika driver finds pamqp's class by the number of pika's."""
    same: Any = commands.INDEX_MAPPING[answer.INDEX]
    assert same.name == answer.NAME
