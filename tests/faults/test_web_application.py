"""A web application under load while its broker restarts: the example for FastAPI, in a process."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mqkit.testing.brokers.broker import Broker
from mqkit.testing.brokers.finder import BrokerNotFoundError, BrokerSpec, find_brokers, start
from tests.integration.examples.shop import EXAMPLES, ORDERS, order, shop
from tests.support import eventually

pytestmark = [pytest.mark.in_turn, pytest.mark.long]

CALLERS = 220
"""Of calls at once, each one after the other."""

PACE = 1.0
"""Seconds between two calls of a caller: the load is moderate but when all wait for the broker."""

PUBLISH, REQUEST = 5.0, 2.0
"""The timeouts of the example, in seconds."""

SLACK = 10.0
"""Seconds for HTTP, and for the turn of a call among so many on a busy machine."""

TYPED = {
    503: {"ConnectionLostError", "NackedError", "BlockedError"},
    504: {"PublishTimeoutError", "RequestTimeoutError", "ReplyLostError"},
}


@functools.cache
def _own_brokers() -> list[BrokerSpec]:
    """Find what may be restarted, and keeps what it has meanwhile."""
    for kind in ("container", "node"):
        with contextlib.suppress(BrokerNotFoundError):
            return find_brokers({**os.environ, "MQKIT_TEST_BROKER": kind})
    return []


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    specs = _own_brokers()
    metafunc.parametrize("own_broker", specs, ids=[spec.label for spec in specs], indirect=True)


@pytest.fixture
def own_broker(request: pytest.FixtureRequest) -> Iterator[Broker]:
    with start(request.param) as broker:
        yield broker


class HttpClient:
    """One connection to a web server, one call at a time: so many of them cost little."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, method: str, path: str, body: object = None) -> tuple[int, dict[str, str]]:
        """Return the status of the answer, and its JSON."""
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        content = b"" if body is None else json.dumps(body).encode()
        writer.write(
            f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(content)}\r\n\r\n".encode()
            + content
        )
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = re.search(r"content-length: (\d+)", head)
        assert length is not None
        return int(head.split()[1]), json.loads(await reader.readexactly(int(length[1])))

    async def close(self) -> None:
        """Close the connection."""
        if self._streams is not None:
            self._streams[1].close()
            await self._streams[1].wait_closed()


@dataclass
class Calls:
    """What became of the calls."""

    accepted: list[str] = field(default_factory=list)
    """Orders that were answered with 202."""
    answers: Counter[str] = field(default_factory=Counter)
    longest: dict[str, float] = field(default_factory=lambda: {"order": 0.0, "price": 0.0})
    under_way: int = 0
    most_at_once: int = 0
    wrong: list[str] = field(default_factory=list)
    """Calls that ended as none may."""

    def have_failed(self) -> bool:
        """Whether calls of both kinds had an error."""
        return {"order 50", "price 50"} <= {what[:8] for what in self.answers}

    def show(self) -> None:
        """Print the figures."""
        longest = ", ".join(f"{kind} {took:.2f} s" for kind, took in self.longest.items())
        print(f"\n{self.most_at_once} calls at once; the longest: {longest}")  # noqa: T201
        for what, count in sorted(self.answers.items()):
            print(f"{count:6} {what}")  # noqa: T201

    async def call(self, client: HttpClient, number: int) -> None:
        """Publish an order, or ask for a price: every second call."""
        self.under_way += 1
        self.most_at_once = max(self.most_at_once, self.under_way)
        kind, began = ("order", "price")[number % 2], time.monotonic()
        if kind == "order":
            status, answer = await client.ask("POST", "/orders", order(number))
        else:
            status, answer = await client.ask("GET", f"/prices/sku-{number}")
        took = time.monotonic() - began
        self.under_way -= 1
        self.longest[kind] = max(self.longest[kind], took)
        error = answer.get("detail", "") if status >= 400 else ""
        self.answers[f"{kind} {status} {error}".strip()] += 1
        if status == 202:
            self.accepted.append(f"o-{number}")
        if status not in (200, 202) and error not in TYPED.get(status, ()):
            self.wrong.append(f"{kind} {status} {answer}")
        if took > (PUBLISH if kind == "order" else REQUEST) + SLACK:
            self.wrong.append(f"{kind} {status} took {took:.1f} s")


@contextlib.asynccontextmanager
async def application(url: str, log: Path) -> AsyncIterator[int]:
    """Run the example in a process; yields its port. It must end in order."""
    command = "uvicorn fastapi_app:app --port 0 --ws none --no-access-log"
    with log.open("wb") as out:
        server = subprocess.Popen(  # noqa: ASYNC220 - it begins at once
            [sys.executable, "-m", *command.split(), "--app-dir", str(EXAMPLES)],
            env={**os.environ, "BROKER_URL": url},
            stdout=out,
            stderr=out,
        )
    try:
        address = re.compile(r"running on http://127\.0\.0\.1:(\d+)")
        await eventually(lambda: bool(address.search(log.read_text())), 30, "its start")
        found = address.search(log.read_text())
        assert found is not None
        yield int(found[1])
        server.terminate()
        await eventually(lambda: server.poll() is not None, 10, "its end")
    finally:
        server.kill()
        server.wait()


async def test_calls_while_the_broker_restarts(own_broker: Broker, tmp_path: Path) -> None:
    """Each of 220 calls at once is a result, which is there, or a typed error in its time."""
    calls, stop = Calls(), asyncio.Event()
    numbers = iter(range(1_000_000))

    async def go_on(port: int) -> None:
        client = HttpClient(port)
        while not stop.is_set():
            await calls.call(client, next(numbers))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), PACE)
        await client.close()

    def both(what: Counter[str]) -> bool:
        return min(what["order 202"], what["price 200"]) >= CALLERS // 2

    async with shop(own_broker.url) as other_side:
        async with (
            application(own_broker.url, tmp_path / "log") as port,
            asyncio.TaskGroup() as callers,
        ):
            for _ in range(CALLERS):
                callers.create_task(go_on(port))
            try:
                await eventually(lambda: both(calls.answers), 30, "results")
                await asyncio.to_thread(own_broker.kill)
                await eventually(calls.have_failed, 20, "errors")
                await asyncio.to_thread(own_broker.start)
                before = calls.answers.copy()
                await eventually(lambda: both(calls.answers - before), 30, "results again")
            finally:
                stop.set()
                calls.show()
        taken = {str(each.properties.message_id) for each in await other_side.take_all(ORDERS)}
    assert calls.wrong == []
    assert calls.most_at_once >= 200
    assert set(calls.accepted) <= taken
    # What ended with an error may be there, too: nobody knew, and each error said so.
    assert taken <= {f"o-{number}" for number in range(next(numbers))}
    assert "Traceback" not in (tmp_path / "log").read_text()
