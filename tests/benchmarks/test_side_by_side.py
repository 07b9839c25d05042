"""The benchmark's own arithmetic, and that its programs do what they measure."""

from __future__ import annotations

import asyncio
import sys
import time
import uuid
from xml.etree import ElementTree as ET

import pika
import pytest
from pika.exceptions import ChannelClosedByBroker

from mqkit.testing.brokers.broker import Broker
from tests.benchmarks.side_by_side import __main__ as command
from tests.benchmarks.side_by_side.chart import chart
from tests.benchmarks.side_by_side.figures import Row, Spread, ratios
from tests.benchmarks.side_by_side.process import Command, Program, ProgramError, run
from tests.benchmarks.side_by_side.registry import ENTRIES, PROGRAMS, ROOT
from tests.benchmarks.side_by_side.report import Report
from tests.benchmarks.side_by_side.room import Room, direct
from tests.benchmarks.side_by_side.systems.base import BODY, Job, Meter, Order, orders, percentile
from tests.benchmarks.side_by_side.systems.pacing import paced, paced_blocking

MESSAGES = 300


def row(system: str, title: str, published: list[float], handled: list[float]) -> Row:
    """A row that was measured."""
    samples = {"publish_per_s": published, "handled_per_s": handled}
    return Row(system, title, "as they are.", {"x": "1"}, samples=samples)


ROWS = {
    "mqkit": row("mqkit", "mqkit", [12_000, 10_000, 11_000], [9_000, 9_500, 8_000]),
    "faststream": row("faststream", "FastStream <0.7>", [2_000, 2_100, 1_900], [2_000] * 3),
}
MACHINE = {"cpu": "C", "cores": 2, "memory_gib": 4, "kernel": "K", "load_before": 0.1}


def test_every_body_has_the_same_size() -> None:
    """Each order is BODY bytes of JSON, and valid."""
    made = orders(1500)
    assert {len(order.model_dump_json()) for order in made} == {BODY}
    assert Order.model_validate_json(made[-1].model_dump_json()) == made[-1]


def test_a_percentile_is_the_nearest_rank() -> None:
    """The 99th percentile of 1 to 100 is 99, and that of one value is the value."""
    assert [percentile(list(range(1, 101)), p) for p in (1, 50, 99)] == [1, 50, 99]
    assert percentile([7], 99) == 7


def test_a_meter_measures_from_the_first_message_to_the_last() -> None:
    """Its rate counts the intervals, and it tells once that it is finished."""
    finished: list[bool] = []
    meter = Meter(Job("", "", 3), lambda: finished.append(True))
    (order,) = orders(1)
    for _ in range(3):
        meter.handled(order)
    meter.first, meter.last = (1.0, 0.5), (2.0, 0.7)
    assert (meter.rate, round(meter.cost)) == (2.0, 100_000)
    assert finished == [True]


async def test_messages_are_paced() -> None:
    """At 1,000 in a second, 50 take 49 ms at least, and no stamp is before its message is due."""
    job = Job("", "", 50, rate=1000.0)
    began = time.monotonic_ns()
    stamps = [order.sent async for order in paced(job)]
    blocked = [order.sent for order in paced_blocking(job)]
    assert time.monotonic_ns() - began >= 2 * 49e6
    for each in (stamps, blocked):
        assert each == sorted(each)
        assert all(stamp >= each[0] + n * 1e6 - 1e6 for n, stamp in enumerate(each))


async def test_who_cannot_keep_up_is_charged_for_it(capsys: pytest.CaptureFixture[str]) -> None:
    """The stamp of a message that is published late is when it was due, and the delay is told."""
    job = Job("", "", 20, rate=1000.0)
    late = []
    async for order in paced(job):
        time.sleep(0.005)  # noqa: ASYNC251 - a client that holds up the loop
        late.append(order)
    assert late[-1].sent - late[0].sent < 40e6
    assert '"behind"' in capsys.readouterr().out


def test_a_spread_is_median_and_range() -> None:
    """It shows as many digits as tell something."""
    assert str(Spread.of([12_000.4, 10_000, 11_000])) == "11,000 (10,000 to 12,000)"
    assert str(Spread.of([1.234, 1.1, 1.5])) == "1.23 (1.10 to 1.50)"
    assert str(Spread.of([5.0])) == "5.00"


def test_ratios_are_of_medians() -> None:
    """What was not measured has none."""
    assert ratios(ROWS) == {"publish_to_faststream": 5.5, "handled_to_faststream": 4.5}


def test_what_was_not_measured_is_told_loudly() -> None:
    """A missing Go client is in the page's text, with the reason."""
    report = Report(ROWS, MACHINE, "RabbitMQ 4.3.6", 3, "command", ["the Go client: no go"])
    text = report.markdown("rates.svg")
    assert "**NOT MEASURED: the Go client: no go.**" in text
    assert "| mqkit | 11,000 (10,000 to 12,000) | 9,000 (8,000 to 9,500) |" in text
    assert "publishes 5.5 times as fast as FastStream" in text
    assert text.startswith("![Messages in a second, by system](rates.svg)")


def test_the_chart_is_well_formed() -> None:
    """It has two bars for each system and two for the legend, fastest first, names escaped."""
    root = ET.fromstring(chart(list(ROWS.values()), "a < b"))  # noqa: S314 - of our own
    space = "{http://www.w3.org/2000/svg}"
    assert len(root.findall(f"{space}rect")) == 2 * len(ROWS) + 2
    texts = [text.text for text in root.findall(f"{space}text")]
    assert texts.index("mqkit") < texts.index("FastStream <0.7>")
    assert float(root.findall(f"{space}rect")[2].attrib["width"]) <= 860


def test_each_system_has_its_program() -> None:
    """There is a module for each, or the Go client's source."""
    folder = ROOT / PROGRAMS.replace(".", "/")
    for entry in ENTRIES:
        assert (folder / (f"{entry.program}.py" if entry.program else "go/main.go")).is_file()


def test_an_unknown_system_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """The exit code is 2, and the names that there are are told."""
    assert command.main(["--systems", "mqkit,nats"]) == 2
    assert "no system 'nats'; there are" in capsys.readouterr().err


def test_a_program_that_fails_tells_why() -> None:
    """The end of what it wrote is in the error."""
    failing = Command("failing", (sys.executable, "-c", "raise SystemExit('no broker there')"))
    with pytest.raises(ProgramError, match="failing, publish: exit code 1\nno broker there"):
        run(failing, "publish")


def test_a_container_is_reached_without_the_proxy_of_its_port(rabbitmq: Broker) -> None:
    """It is the same broker; one that is no container is reached as its URL says."""
    url = direct(rabbitmq, rabbitmq.url)
    assert (url == rabbitmq.url) == (rabbitmq.kind != "container")
    queue = f"test-{uuid.uuid4()}"
    with (
        pika.BlockingConnection(pika.URLParameters(rabbitmq.url)) as published,
        pika.BlockingConnection(pika.URLParameters(url)) as own,
    ):
        published.channel().queue_declare(queue, arguments={"x-queue-type": "quorum"}, durable=True)
        own.channel().queue_delete(queue)
        with pytest.raises(ChannelClosedByBroker, match="NOT_FOUND"):
            published.channel().queue_declare(queue, passive=True)


@pytest.mark.parametrize("program", ["mqkit_pika", "mqkit_aio_pika", "raw_pika", "raw_aio_pika"])
async def test_a_program_publishes_and_handles(mqkit_embedded: Broker, program: str) -> None:
    """What it publishes is persistent and in a quorum queue, and all of it is handled and acked."""
    entry = Command(program, (sys.executable, "-m", f"{PROGRAMS}.{program}"))
    room = Room(mqkit_embedded, mqkit_embedded.url)
    with room.queue("test") as queue:
        loop = ("--loop", "asyncio")
        words = ("--url", room.url, "--queue", queue, "--messages", MESSAGES, *loop)
        published = await asyncio.to_thread(run, entry, "publish", *words)
        assert published["publish_per_s"] > 0
        assert room.check(queue, MESSAGES) == BODY
        latency = ("--latency", "--skip", 10)
        with Program(entry, "consume", *words, *latency) as consumer:
            consumer.wait_until_ready()
            told = await asyncio.to_thread(consumer.result)
        room.check_empty(queue)
    assert told["handled_per_s"] > 0
    assert 0 < told["p50_ms"] <= told["p99_ms"]
    assert 0 < told["start_s"] < 60
    assert 5 < told["rss_mib"] < 500
