"""Every option that takes a number, a time, a flag or a name: what it refuses, and what it says."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

import pytest
from typer.testing import CliRunner

from mqkit import (
    BlockingPublisher,
    BrokerUrl,
    BrokerUrlError,
    ConfigurationError,
    Exchange,
    Limits,
    MqkitError,
    Outgoing,
    Pause,
    Publisher,
    Queue,
    Retry,
    RetryLater,
    Runtime,
    Service,
)
from mqkit.broker.connection import Connection
from mqkit.cli.app import app
from mqkit.drivers import named
from mqkit.embedded import EmbeddedServer
from mqkit.message import Message
from mqkit.settings import Host
from mqkit.store import Store
from mqkit.testing.harness.run import Harness, HarnessError, harness
from mqkit.testing.proxy.proxy import TcpProxy

URL = "amqp://guest:guest@127.0.0.1:1/"

NO_NUMBERS: tuple[Any, ...] = (True, False, "5", b"5", [], {}, object(), 1j, math.nan)
NO_TIMES = (*NO_NUMBERS, math.inf, -math.inf, -1, -0.001, timedelta(seconds=-1), 10**400, 1e300)
NO_WHOLES = (*NO_NUMBERS, math.inf, 1.5, 1.0, -1, -(10**5000), timedelta(seconds=1))
NO_COUNTS = (*NO_WHOLES, 0)
NO_FLAGS: tuple[Any, ...] = (None, 0, 1, "yes", "no", "", [], math.nan)
NO_NAMES: tuple[Any, ...] = (5, b"name", "", "n" * 256, "\u00e9" * 128, "\udc80", "a\0b", True, [])


@dataclass(frozen=True)
class Option:
    """An option, what it refuses, and some of what it takes."""

    name: str
    set_to: Callable[[Any], Any]
    wrong: Iterable[Any]
    right: Iterable[Any]


def service(**options: Any) -> Any:
    """A service with one handler, for what needs one."""
    made = Service("s", retry=Retry.never())

    @made.handler(Queue("q"), **options)
    async def handle(body: dict[str, int]) -> None: ...

    return made


def batch(**options: Any) -> Any:
    made = Service("s", retry=Retry.never())

    @made.batch(Queue("q"), **{"size": 5, "within": 1, **options})
    async def handle(bodies: list[dict[str, int]]) -> None: ...


def connection() -> Connection:
    return Connection(BrokerUrl.parse(URL), name="test", driver=named())


def publisher(**options: Any) -> Publisher:
    return Publisher.on(connection(), **options)


def publish(timeout: Any) -> None:
    """Publish with a right timeout would wait for a broker: only what is refused is tried."""
    made = Publisher.on(cast(Connection, _Never()))
    asyncio.run(made.publish("", "q", {}, timeout=timeout))


def send(timeout: Any) -> None:
    made = Publisher.on(cast(Connection, _Never()))
    asyncio.run(made.send(Message("", "q", b""), timeout=timeout))


def request(timeout: Any) -> None:
    made = Publisher.on(cast(Connection, _Never()))
    asyncio.run(made.request(Queue("q"), {}, dict, timeout=timeout))


def publish_blocking(timeout: Any) -> None:
    with BlockingPublisher(URL) as made:
        made.publish("", "q", {}, timeout=timeout)


def request_blocking(timeout: Any) -> None:
    with BlockingPublisher(URL) as made:
        made.request(Queue("q"), {}, dict, timeout=timeout)


class _Never:
    """A connection that must not be asked for anything."""

    name = "never"


async def _run_harness(**options: Any) -> None:
    async with harness(service(), URL, **options):
        pass


def in_harness(**options: Any) -> None:
    asyncio.run(_run_harness(**options))


def idle(within: Any) -> None:
    async def run() -> None:
        made = Harness(service(), URL, None, 1)
        made._failed = asyncio.ensure_future(asyncio.sleep(60))
        await made.idle(within=within)
        made._failed.cancel()

    asyncio.run(run())


def advance(seconds: Any) -> None:
    async def run() -> None:
        async with EmbeddedServer() as server:
            await server.advance(seconds)

    asyncio.run(run())


def advance_harness(seconds: Any) -> None:
    async def run() -> None:
        await Harness(service(), URL, cast(Any, _Never()), 1).advance(seconds)

    asyncio.run(run())


def in_proxy(call: Callable[[TcpProxy], object]) -> None:
    with TcpProxy(URL) as proxy:
        call(proxy)


def _field(
    kind: Callable[..., object], name: str, *given: Any, **others: Any
) -> Callable[[Any], Any]:
    return lambda value: kind(*given, **others, **{name: value})


NOT_ZERO = (0, 0.0, timedelta(0))
TIMES = (1, 0.5, timedelta(seconds=2))

OPTIONS = [
    Option(
        "Publisher(timeout)", lambda v: publisher(timeout=v), (*NO_TIMES, *NOT_ZERO, None), TIMES
    ),
    Option("Publisher(window)", lambda v: publisher(window=v), (*NO_COUNTS, None), (1, 10**6)),
    Option("Publisher(app_id)", lambda v: publisher(app_id=v), NO_NAMES, (None, "a")),
    Option("Publisher(limits)", lambda v: publisher(limits=v), (None, 5, {}), (Limits(),)),
    Option("Publisher(on_confirmed)", lambda v: publisher(on_confirmed=v), (5, "f"), (None, print)),
    Option("publish(timeout)", publish, (*NO_TIMES, *NOT_ZERO), ()),
    Option("send(timeout)", send, (*NO_TIMES, *NOT_ZERO), ()),
    Option("request(timeout)", request, (*NO_TIMES, *NOT_ZERO), ()),
    Option(
        "publish_many(window)",
        lambda v: publisher().publish_many([], window=v),
        (*NO_COUNTS, None),
        (1, 500),
    ),
    Option(
        "publish_many(timeout)",
        lambda v: publisher().publish_many([], timeout=v),
        (*NO_TIMES, *NOT_ZERO),
        (None, *TIMES),
    ),
    Option(
        "publish_many(messages)",
        lambda v: publisher().publish_many(v),
        (None, 5, Outgoing("", "q", {})),
        ([], iter(())),
    ),
    Option(
        "BlockingPublisher(timeout)",
        lambda v: BlockingPublisher(URL, timeout=v),
        (*NO_TIMES, *NOT_ZERO, None),
        TIMES,
    ),
    Option("BlockingPublisher(url)", BlockingPublisher, (None, 5, b"amqp://h/"), (URL,)),
    Option("BlockingPublisher(name)", lambda v: BlockingPublisher(URL, name=v), NO_NAMES, ("n",)),
    Option(
        "BlockingPublisher(app_id)",
        lambda v: BlockingPublisher(URL, app_id=v),
        NO_NAMES,
        (None, "a"),
    ),
    Option(
        "BlockingPublisher(limits)",
        lambda v: BlockingPublisher(URL, limits=v),
        (None, 5),
        (Limits(),),
    ),
    Option("BlockingPublisher.publish(timeout)", publish_blocking, (*NO_TIMES, *NOT_ZERO), ()),
    Option("BlockingPublisher.request(timeout)", request_blocking, (*NO_TIMES, *NOT_ZERO), ()),
    Option(
        "BlockingPublisher.publish_many(timeout)",
        lambda v: BlockingPublisher(URL).publish_many([], timeout=v),
        (*NO_TIMES, *NOT_ZERO),
        (None, *TIMES),
    ),
    Option(
        "BlockingPublisher.publish_many(window)",
        lambda v: BlockingPublisher(URL).publish_many([], window=v),
        (*NO_COUNTS, None),
        (1, 500),
    ),
    Option(
        "BlockingPublisher.publish_many(messages)",
        lambda v: BlockingPublisher(URL).publish_many(v),
        (None, 5, Outgoing("", "q", {})),
        ([], iter(())),
    ),
    Option("RetryLater", RetryLater, (*NO_TIMES, None, 3e7), (0, *TIMES)),
    Option(
        "Pause(every)",
        lambda v: Pause(on=OSError, every=v),
        (*NO_TIMES, *NOT_ZERO, None, 3e7),
        TIMES,
    ),
    Option(
        "Pause(rate)",
        lambda v: Pause(on=OSError, rate=v),
        (*NO_NUMBERS, 0, -1, 1.1, math.inf, 10**400),
        (1, 0.5),
    ),
    Option("Pause(over)", lambda v: Pause(on=OSError, over=v), (*NO_COUNTS, 10**9), (5, 100)),
    Option("Pause(minimum)", lambda v: Pause(on=OSError, minimum=v), (*NO_COUNTS, 21), (1, 20)),
    Option(
        "Pause(probe)",
        lambda v: Pause(on=OSError, probe=v),
        (5, "ping", lambda needed: needed),
        (None, lambda: None, lambda optional=1: optional),
    ),
    Option("Runtime(grace)", lambda v: _runtime(grace=v), (*NO_TIMES, None), (0, *TIMES)),
    Option(
        "Runtime(connect_deadline)",
        lambda v: _runtime(connect_deadline=v),
        (*NO_TIMES, *NOT_ZERO),
        (None, *TIMES),
    ),
    Option("Service(name)", Service, (*NO_NAMES, " "), ("s",)),
    Option("Service(limits)", lambda v: Service("s", limits=v), (None, 5), (Limits(),)),
    Option(
        "handler(prefetch)", lambda v: service(prefetch=v), (*NO_COUNTS, None, 65536), (1, 65535)
    ),
    Option(
        "handler(concurrency)", lambda v: service(concurrency=v), (*NO_COUNTS, 101), (None, 100)
    ),
    Option(
        "handler(timeout)",
        lambda v: service(timeout=v),
        (*NO_TIMES, *NOT_ZERO, 1800),
        (None, *TIMES),
    ),
    Option("handler(cancel_when_lost)", lambda v: service(cancel_when_lost=v), NO_FLAGS, (True,)),
    Option(
        "handler(bind)",
        lambda v: service(bind=v),
        (None, 5, "key", Exchange("x"), [Exchange("x")], [None]),
        ([], (), [Exchange("x").key("k")]),
    ),
    Option("batch(size)", lambda v: batch(size=v), (*NO_COUNTS, None, 65536), (1, 20)),
    Option("batch(within)", lambda v: batch(within=v), (*NO_TIMES, *NOT_ZERO, None, 3600), TIMES),
    Option("batch(prefetch)", lambda v: batch(prefetch=v), (*NO_COUNTS, 4), (None, 5)),
    Option("batch(concurrency)", lambda v: batch(concurrency=v), (*NO_COUNTS, None), (1, 2)),
    Option("batch(timeout)", lambda v: batch(timeout=v), (*NO_TIMES, *NOT_ZERO), (None, *TIMES)),
    *(
        Option(f"Limits({name})", _field(Limits, name), NO_WHOLES, (5,))
        for name in ("body", "headers", "depth")
    ),
    Option("Queue(name)", Queue, (*NO_NAMES, None), ("q",)),
    Option("Queue(type)", lambda v: Queue("q", type=v), (None, 5, "lazy", []), ("quorum",)),
    Option("Queue(delivery_limit)", lambda v: Queue("q", delivery_limit=v), NO_COUNTS, (1, 20)),
    Option("Queue(partitions)", lambda v: Queue("q", partitions=v), NO_COUNTS, (None, 1, 1000)),
    Option("Queue(durable)", lambda v: Queue("q", durable=v), NO_FLAGS, (True,)),
    *(
        Option(
            f"Queue({name})",
            _field(Queue, name, "q", type="classic"),
            NO_FLAGS,
            (True, False),
        )
        for name in ("exclusive", "auto_delete", "dead_letters", "declare")
    ),
    Option(
        "Queue(arguments)",
        lambda v: Queue("q", arguments=v),
        (None, [], "x", {5: 1}, {"x": object()}, {"x": 2**70}, {"x": "y" * 5000}),
        ({}, {"x-max-length": 5}),
    ),
    Option("Exchange(name)", Exchange, (*NO_NAMES, None), ("x",)),
    Option("Exchange(type)", lambda v: Exchange("x", type=v), (None, 5, "x-random"), ("topic",)),
    *(
        Option(f"Exchange({name})", _field(Exchange, name, "x"), NO_FLAGS, (True,))
        for name in ("durable", "auto_delete", "internal", "declare")
    ),
    Option("Exchange(arguments)", lambda v: Exchange("x", arguments=v), (None, [], {"": 1}), ({},)),
    Option(
        "Exchange.key(routing_key)",
        lambda v: Exchange("x").key(v),
        [name for name in NO_NAMES if name != ""] + [None],
        ("", "k"),
    ),
    Option(
        "Exchange.key(arguments)",
        lambda v: Exchange("x").key("k", v),
        ([1], "x", {"x": {1}}),
        (None, {"x-match": "all"}),
    ),
    *(
        Option(
            f"Store({name})",
            _field(Store, name, "sqlite:///never.sqlite"),
            (*NO_TIMES, *NOT_ZERO, None),
            TIMES,
        )
        for name in ("sweep", "longest_retry", "replay_age")
    ),
    Option(
        "Store(pool)", lambda v: Store("sqlite:///never.sqlite", pool=v), (*NO_COUNTS, None), (1, 5)
    ),
    Option(
        "Store(limits)", lambda v: Store("sqlite:///never.sqlite", limits=v), (None, 5), (Limits(),)
    ),
    Option(
        "Store(relay)", lambda v: Store("sqlite:///never.sqlite", relay=v), NO_FLAGS, (True, False)
    ),
    Option(
        "Store(create_tables)",
        lambda v: Store("sqlite:///never.sqlite", create_tables=v),
        NO_FLAGS,
        (False,),
    ),
    Option("Host(port)", lambda v: Host("h", v), (*NO_WHOLES, 65536), (1, 65535)),
    Option("Host(name)", lambda v: Host(v, 1), (None, 5, ""), ("h",)),
    Option(
        "BrokerUrl(heartbeat)",
        lambda v: BrokerUrl((Host("h", 1),), heartbeat=v),
        (*NO_COUNTS, 65536),
        (1, 65535),
    ),
    Option(
        "BrokerUrl(connect_timeout)",
        lambda v: BrokerUrl((Host("h", 1),), connect_timeout=v),
        (*NO_TIMES, *NOT_ZERO, 3601),
        TIMES,
    ),
    Option("harness(grace)", lambda v: in_harness(grace=v), (*NO_TIMES, None), ()),
    Option("harness(within)", lambda v: in_harness(within=v), (*NO_TIMES, *NOT_ZERO, None), ()),
    Option("Harness.idle(within)", idle, NO_TIMES, ()),
    Option("Harness.advance", advance_harness, (*NO_TIMES, None), ()),
    Option(
        "TcpProxy.delay", lambda v: in_proxy(lambda p: p.delay(v)), (*NO_TIMES, None), (0, *TIMES)
    ),
    Option("TcpProxy.split", lambda v: in_proxy(lambda p: p.split(v)), (*NO_COUNTS, None), (1, 9)),
    Option(
        "TcpProxy.cut_after",
        lambda v: in_proxy(lambda p: p.cut_after("both", count=v)),
        (*NO_COUNTS, None),
        (),
    ),
    Option(
        "TcpProxy.garble(at)",
        lambda v: in_proxy(lambda p: p.garble("to_broker", at=v)),
        (*NO_NUMBERS, -1, 1.5, None),
        (0, 5),
    ),
]
"""What is not here: `Retry`'s strategies (test_retry.py), and messages (test_outgoing.py)."""


def _runtime(**options: Any) -> Runtime:
    return Runtime(service(), BrokerUrl.parse(URL), **options)


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_an_option_refuses_what_it_does_not_take(option: Option) -> None:
    """Where it is given, with an error of mqkit's that names the option; it takes what is right."""
    word = option.name.rpartition("(")[2].rstrip(")").rpartition(".")[2]
    for wrong in option.wrong:
        with pytest.raises(MqkitError) as caught:
            option.set_to(wrong)
        assert isinstance(caught.value, ConfigurationError | HarnessError), wrong
        assert _NAMES.get(option.name, word) in str(caught.value), (wrong, str(caught.value))
        assert len(str(caught.value)) < 500
    for right in option.right:
        option.set_to(right)


_NAMES = {
    "publish_many(messages)": "publish_many",
    "BlockingPublisher.publish_many(messages)": "publish_many",
    "BlockingPublisher(url)": "a broker URL",
    "Service(name)": "name",
    "Harness.advance": "time goes forward",
    "TcpProxy.delay": "a delay",
    "TcpProxy.garble(at)": "garble",
    "Exchange.key(routing_key)": "routing key",
    "Queue(name)": "name",
    "Exchange(name)": "name",
    "Queue(arguments)": "argument",
    "Exchange(arguments)": "argument",
    "Exchange.key(arguments)": "argument",
    "Pause(probe)": "probe",
}
"""What an error calls those options that it does not call by their names."""


@pytest.mark.parametrize("port", [True, "5672", 1.5, -1, 65536, None, math.nan])
def test_the_embedded_broker_takes_a_port(port: Any) -> None:
    """It knows nothing of mqkit's errors: a ValueError says what a port is."""
    with pytest.raises(ValueError, match="a port is a whole number from 0 to 65535"):
        EmbeddedServer(port=port)


@pytest.mark.parametrize("seconds", [*NO_TIMES, None])
def test_the_embedded_brokers_time_goes_forward(seconds: Any) -> None:
    """By a number of seconds or a timedelta, and by nothing else."""
    with pytest.raises(ValueError, match="forward only"):
        advance(seconds)
    advance(timedelta(seconds=5))


@pytest.mark.parametrize(
    "query",
    [
        *(
            f"heartbeat={text}"
            for text in ("nan", "inf", "-1", "0", "1.5", "1e1", "1_0", "\u0663", "")
        ),
        "heartbeat=" + "1" * 5000,
        *(
            f"connect_timeout={text}"
            for text in ("nan", "inf", "-1", "0", "1e1", "1_0", "5s", "\u0663", "", "infinity")
        ),
        "connect_timeout=" + "1" * 5000,
    ],
)
def test_a_url_takes_numbers_as_a_person_writes_them(query: str) -> None:
    """Of a parameter that is another, the error names the parameter."""
    with pytest.raises(BrokerUrlError, match=query.partition("=")[0]):
        BrokerUrl.parse(f"amqp://h/?{query}")
    assert BrokerUrl.parse("amqp://h/?heartbeat=5&connect_timeout=.5").connect_timeout == 0.5


@pytest.mark.parametrize("port", ["0", "65536", "1" * 5000, "-1", "1.5", "\u0663"])
def test_a_url_takes_a_port(port: str) -> None:
    """Of 1 to 65535, in digits."""
    with pytest.raises(BrokerUrlError, match="port"):
        BrokerUrl.parse(f"amqp://h:{port}/")


RUN = ["run", "module:service", "--url", URL]
PUBLISH = ["publish", "", "key", "--file", "/dev/null", "--url", URL]


@pytest.mark.parametrize(
    ("command", "option", "wrong"),
    [
        (RUN, "--grace", ["nan", "inf", "-1", "5s", "", "1e300", "True"]),
        (RUN, "--connect-deadline", ["nan", "inf", "-1", "0", "5s", "1e300"]),
        (RUN, "--processes", ["0", "-1", "1.5", "nan", "two", "1001"]),
        (PUBLISH, "--window", ["0", "-1", "1.5", "nan", "inf"]),
        (PUBLISH, "--timeout", ["nan", "inf", "-1", "0", "5s", "1e300"]),
        (["broker"], "--port", ["-1", "65536", "70000", "1.5", "nan", "amqp"]),
    ],
)
def test_a_command_refuses_what_its_option_does_not_take(
    command: list[str], option: str, wrong: list[str]
) -> None:
    """It was called wrongly: exit code 2, and what it prints names the option."""
    for value in wrong:
        result = CliRunner().invoke(app, [*command, f"{option}={value}"])
        assert result.exit_code == 2, (value, result.output)
        assert option in result.output
