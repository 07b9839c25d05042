"""The conformance suite's own machinery, without a broker"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from mqkit.errors import ConfigurationError
from tests.conformance.suite import __main__ as command
from tests.conformance.suite import features, table
from tests.conformance.suite.channel import WireChannel
from tests.conformance.suite.clients import Client
from tests.conformance.suite.env import Env, Target, expect_closed
from tests.conformance.suite.features import Feature
from tests.conformance.suite.runner import Result, Verdict, run
from tests.conformance.suite.suite import Case, case, collect, select
from tests.conformance.suite.targets import specs
from tests.conformance.suite.values import Closed, Delivery, Properties
from tests.conformance.suite.wire.base import Raw, Wire

LACKED = Feature.PREFETCH_PER_CONSUMER_ONLY


class FakeRaw(Raw):
    """A channel that answers everything, or is closed by what is sent to a name"""

    def __init__(self, closed_by: str = "", closed: Closed | None = None) -> None:
        self.closed_by = closed_by
        self.closed = closed

    async def call(self, method: str, **fields: Any) -> Any:
        if self.closed is not None and method == self.closed_by:
            self.listener.on_closed(self.closed)
            raise self.closed.error()

    async def send(self, method: str, **fields: Any) -> None:
        await self.call(method)

    async def publish(
        self, exchange: str, routing_key: str, body: bytes, properties: Properties, mandatory: bool
    ) -> None: ...

    async def get(self, queue: str, no_ack: bool) -> Delivery | None: ...

    async def consume(
        self, queue: str, tag: str, no_ack: bool, exclusive: bool, arguments: dict[str, Any]
    ) -> None: ...

    async def cancel(self, tag: str) -> None: ...

    async def qos(self, count: int, global_: bool) -> None: ...

    async def confirm_select(self) -> None: ...

    async def close(self) -> None: ...


class FakeWire(Wire):
    """A connection of such channels"""

    def __init__(self) -> None:
        self.closed = asyncio.get_running_loop().create_future()
        self.server_properties: Mapping[str, Any] = {}

    async def raw(self) -> FakeRaw:
        return FakeRaw()

    async def close(self) -> None: ...


async def connect(_: object) -> FakeWire:
    return FakeWire()


CLIENT = Client("fake", "broker", connect)


@case("area")
async def holds(env: Env) -> None:
    """It holds"""
    await (await env.channel()).round_trip()


@case("area")
async def breaks(env: Env) -> None:
    """It does not hold"""
    raise ValueError("broken")


@case("area")
async def hangs(env: Env) -> None:
    """It never ends"""
    await asyncio.Event().wait()


@case("area")
async def cancelled(env: Env) -> None:
    """Its client library cancels it"""
    raise asyncio.CancelledError


@case("area", needs={LACKED})
async def needing(env: Env) -> None:
    """It holds, though it needs something"""


@case("area", needs={LACKED})
async def needing_breaks(env: Env) -> None:
    """It does not hold where something is lacking"""
    raise ValueError("broken")


@pytest.fixture
def lacking(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker 'poor' that is declared to lack a feature"""
    monkeypatch.setattr(features, "LACKS", {"poor": {LACKED: "it is old"}})


async def verdicts(*cases: Case, label: str = "rich", **options: Any) -> list[Verdict]:
    results = await run(Target(label, "amqp://h"), CLIENT, cases, **options)
    return [result.verdict for result in results]


async def test_a_failure_stops_nothing() -> None:
    """Every case gets a verdict, whatever became of those before it, and one that hangs fails"""
    assert await verdicts(breaks, hangs, cancelled, holds, timeout=0.05, parallel=1) == [
        "failed",
        "failed",
        "failed",
        "passed",
    ]


async def test_what_failed_is_told() -> None:
    """A result's error names the exception and its words"""
    (result,) = await run(Target("rich", "amqp://h"), CLIENT, [breaks])
    assert result.error == "ValueError: broken"


async def test_where_a_case_failed_is_told() -> None:
    """The error of a failed case begins with the file, the number and the text of its line"""
    (failing,) = select(collect(), ["queues.redeclare_otherwise"])
    (result,) = await run(Target("rich", "amqp://h"), CLIENT, [failing])
    assert re.match(r"queues\.py:\d+: .*\bchannel\b.*: \w+Error", result.error), result.error


@pytest.mark.usefixtures("lacking")
async def test_a_lack_is_no_pass() -> None:
    """A case that needs what its broker lacks is counted as lacking, and is not run"""
    assert await verdicts(needing, needing_breaks, holds, label="poor") == [
        "lacks",
        "lacks",
        "passed",
    ]
    assert await verdicts(needing, needing_breaks) == ["passed", "failed"]


@pytest.mark.usefixtures("lacking")
async def test_an_untrue_lack_fails() -> None:
    """Where lacks are checked, a case that holds although it is declared as lacking fails"""
    assert await verdicts(needing, needing_breaks, label="poor", check_lacks=True) == [
        "failed",
        "lacks",
    ]


async def test_cases_of_another_kind_are_left_out() -> None:
    """A client runs only the cases that are about what it can show"""
    assert await verdicts(*(c for c in collect() if c.about == "bytes")) == []


async def test_closing_with_another_code_fails() -> None:
    """expect_closed fails for another code, for another thing closed, and where all is open"""
    for raw in (
        FakeRaw("queue_bind", Closed(404, "NOT_FOUND")),
        FakeRaw("queue_bind", Closed(406, "PRECONDITION_FAILED", of_connection=True)),
        FakeRaw(),
    ):
        channel = WireChannel(raw, [])
        with pytest.raises(AssertionError):
            async with expect_closed(channel, 406):
                await channel.queue_bind("q", "x")
    channel = WireChannel(FakeRaw("basic_ack", Closed(406, "unknown")), [])
    async with expect_closed(channel, 406, "unknown"):
        await channel.ack(1)


def test_every_case_is_found_once_and_says_what_it_claims() -> None:
    """The cases have ids of their own, and each a sentence that ends in a full stop"""
    cases = collect()
    ids = [c.id for c in cases]
    assert len(set(ids)) == len(ids)
    assert {
        "routing.headers_any",
        "protocol.unknown_method",
        "driver_consuming.broker_sent_cancel",
    } <= {*ids}
    assert [c.id for c in cases if not c.sentence.endswith(".")] == []


def test_every_feature_is_needed_and_lacked() -> None:
    """No feature is declared that no case needs, or that no broker lacks"""
    needed = {feature for c in collect() for feature in c.needs}
    lacked = {feature for lacks in features.LACKS.values() for feature in lacks}
    assert needed == lacked == set(Feature)


def test_a_case_needs_its_sentence() -> None:
    """A function without a docstring is refused as a case"""

    async def silent(env: Env) -> None: ...

    with pytest.raises(ConfigurationError, match="silent"):
        case("area")(silent)


def test_cases_are_chosen_by_id_or_area() -> None:
    """A pattern is for the id or the area, and one that matches nothing is an error"""
    assert select([holds, breaks], ["*.holds"]) == [holds]
    assert select([holds, breaks], ["area"]) == [holds, breaks]
    with pytest.raises(ConfigurationError, match="nothing"):
        select([holds], ["nothing"])


def test_the_table_counts_lacks_apart() -> None:
    """A cell is passed of run, and lacks beside; a dash where nothing was run"""
    results = [
        Result(holds, "4.3", "pika raw", "passed", 0.1),
        Result(breaks, "4.3", "pika raw", "failed", 0.1),
        Result(needing, "4.3", "pika raw", "lacks", 0),
        Result(holds, "embedded", "bytes", "passed", 0.1),
    ]
    targets = [Target("4.3", "amqp://h", "4.3.6"), Target("embedded", "amqp://h", "0.1")]
    assert table.table(results, targets).splitlines() == [
        "| broker | pika raw | bytes |",
        "| --- | --- | --- |",
        "| RabbitMQ 4.3.6 | 1/2, lacks 1 | - |",
        "| embedded | - | 1/1 |",
    ]


def test_the_table_replaces_what_is_between_the_marks(tmp_path: Path) -> None:
    """What is around the marks stays; a file without both marks is an error, and stays"""
    path = tmp_path / "page.md"
    path.write_text(f"a\n{table.BEGIN}\nold\n{table.END}\nb\n")
    table.put_into(path, "new")
    assert path.read_text() == f"a\n{table.BEGIN}\nnew\n{table.END}\nb\n"
    path.write_text(f"a\n{table.END}\n{table.BEGIN}\n")
    with pytest.raises(ConfigurationError, match=r"page\.md"):
        table.put_into(path, "new")


@pytest.mark.parametrize(
    ("given", "told"), [("docs/page.md", "docs/page.md"), ("/home/a/page.md", "page.md")]
)
def test_the_table_says_how_it_was_made(given: str, told: str) -> None:
    """The command below the table has the file as it was given, and no path of a machine"""
    options = argparse.Namespace(client=[], case=["a.*"], into=Path(given))
    targets = [Target("4.3", "amqp://user:secret@h", "4.3.6")]
    origin = command._origin(options, [Result(holds, "4.3", "bytes", "passed", 0.1)], targets)
    assert f"suite --broker=4.3 '--case=a.*' --into={told}`." in origin


def test_brokers_by_name() -> None:
    """A version is a container, a URL may have a label, and other words are refused"""
    (version, labelled, url) = specs(["3.10", "4.9=amqp://h/", "amqp://h/a=b"])
    assert (version.kind, version.target) == ("container", "rabbitmq:3.10-management")
    assert (labelled.kind, labelled.label, labelled.target) == ("url", "4.9", "amqp://h/")
    assert url.target == "amqp://h/a=b"
    with pytest.raises(ConfigurationError, match="nonsense"):
        specs(["nonsense"])


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--case", "no.such.case"], 2),
        (["--client", "no such client"], 2),
        (["--broker", "nonsense"], 2),
        (["--broker", "amqp://127.0.0.1:1/?connect_timeout=1"], 1),
    ],
)
def test_exit_codes(arguments: list[str], code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """2 for a wrong call, 1 where the broker is not to be had"""
    monkeypatch.setattr("mqkit.testing.brokers.broker.URL_TIMEOUT", 0.1)
    assert command.main(arguments) == code


@pytest.mark.parametrize(("verdict", "code"), [("passed", 0), ("lacks", 0), ("failed", 1)])
def test_exit_code_of_a_run(
    verdict: Verdict, code: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A run exits with 1 if a case failed, and its results are in the JSON file either way"""

    async def run(target: Target, *_: object, **__: object) -> list[Result]:
        return [Result(holds, target.label, "pika raw", verdict, 0.1)]

    monkeypatch.setattr(command, "run", run)
    monkeypatch.setattr(command, "specs", list)
    monkeypatch.setattr(
        command, "opened", lambda name: contextlib.nullcontext(Target(name, "amqp://h"))
    )
    written = tmp_path / "results.json"
    arguments = ["--broker", "4.3", "--client", "pika raw", "--json", str(written)]
    assert command.main(arguments) == code
    assert [r["verdict"] for r in json.loads(written.read_text())] == [verdict]
