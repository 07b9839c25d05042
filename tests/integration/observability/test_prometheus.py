"""Prometheus itself scrapes services, and answers what they have handled."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import math
import shutil
import socket
import subprocess
import urllib.parse
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from mqkit import Outgoing
from mqkit.testing.brokers.broker import Broker
from tests.integration.observability.dashboard import RULES, alerts, as_prometheus, panels
from tests.integration.observability.scraping import page, port_of
from tests.support import ROOT, Client, connected, eventually, running

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]

SERVICES = "tests.integration.observability.services"

MESSAGES = 3000


@pytest.fixture(scope="session")
def prometheus() -> str:
    """The command, which is installed where there is none; never skipped in silence."""
    if shutil.which("prometheus") is None:
        install = ["/bin/sh", str(ROOT / "deploy" / "install-prometheus.sh")]
        if subprocess.run(install, check=False).returncode:
            pytest.fail("there is no prometheus: deploy/install-prometheus.sh failed")
    found = shutil.which("prometheus")
    assert found, "it is installed, and not in the PATH"
    return found


def free_port() -> int:
    """One that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextlib.contextmanager
def started(prometheus: str, folder: Path, targets: dict[str, int]) -> Iterator[int]:
    """Run it on loopback with the rules of deploy/; gives its port."""
    port = free_port()
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(RULES)],
        "scrape_configs": [
            {
                "job_name": "mqkit",
                "static_configs": [
                    {"targets": [f"127.0.0.1:{each}" for each in targets.values()]},
                ],
            }
        ],
    }
    (folder / "prometheus.yml").write_text(json.dumps(config))
    command = [
        prometheus,
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
    try:
        yield port
    finally:
        process.terminate()
        process.wait()


async def answer(port: int, path: str, **parameters: str) -> Any:
    """What its API answers."""
    try:
        status, text = await page(port, f"/api/v1/{path}?{urllib.parse.urlencode(parameters)}")
    except OSError:
        return None  # it has not begun to listen yet
    assert status == 200, text
    return json.loads(text)["data"]


async def values(port: int, query: str) -> list[float]:
    """The values of all series that a query finds now; without those that are no number."""
    found = await answer(port, "query", query=query)
    numbers = [float(each["value"][1]) for each in found["result"]] if found else []
    return [each for each in numbers if math.isfinite(each)]


async def publish(client: Client, queue: str, bodies: list[dict[str, str]]) -> None:
    """Publish them."""
    async for result in client.publisher.publish_many(Outgoing("", queue, b) for b in bodies):
        assert result.error is None


@contextlib.asynccontextmanager
async def work(client: Client, name: str) -> AsyncIterator[None]:
    """Have something of all that there is go on: rates are of what goes on now."""

    async def go_on() -> None:
        number = 0
        while True:
            number += 1
            some = [{"do": "publish"}] * 20 + [{"do": "sleep", "seconds": "0.5"}] * 3
            failing = [{"do": "fail", "card": "x"}, {"do": "reject", "card": "x"}]
            await publish(client, f"{name}.q", some + failing)
            await publish(client, f"{name}.q.ordered", [{"key": f"{number}"}] * 3)
            await publish(client, f"{name}.q.saga", [{"key": f"{number}"}])
            await asyncio.sleep(0.3)

    task = asyncio.create_task(go_on())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()


def test_the_alert_rules_are_rules(prometheus: str) -> None:
    """`promtool check rules` says so"""
    check = [str(Path(prometheus).with_name("promtool")), "check", "rules", str(RULES)]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"SUCCESS: {len(list(alerts()))} rules found" in done.stdout


async def test_it_answers_the_exact_count_and_every_panel_has_data(
    prometheus: str, mqkit_embedded: Broker, name: str, tmp_path: Path
) -> None:
    """Of a service of two processes, and of one with a store, an order and a saga"""
    names = {
        "MQKIT_TEST_QUEUE": f"{name}.q",
        "MQKIT_TEST_DATABASE": f"sqlite:///{tmp_path / 'store.sqlite'}",
    }
    url = mqkit_embedded.url
    options = ("--http", "0", "--processes")
    async with connected(url) as client:
        with (
            running(f"{SERVICES}:plain", url, tmp_path / "1.log", *options, "2", **names) as plain,
            running(f"{SERVICES}:whole", url, tmp_path / "2.log", *options, "1", **names) as whole,
        ):
            ports = {"plain": await port_of(plain), "whole": await port_of(whole)}
            for each in ports.values():
                await eventually(functools.partial(_is_ready, each), 60, "the services")
            with started(prometheus, tmp_path, ports) as port:
                await publish(client, f"{name}.q", [{"do": ""}] * MESSAGES)
                await _answers_exactly(port, MESSAGES)
                async with work(client, name):
                    await _has_data(port)
                    await _rules_are_well(port)
                text = (tmp_path / "prometheus.log").read_text()
    assert "level=error" not in text


async def _is_ready(port: int) -> bool:
    return (await page(port, "/readyz"))[0] == 200


async def _answers_exactly(port: int, count: int) -> None:
    query = 'sum(mqkit_handled_total{service="plain",outcome="acked"})'

    async def is_there() -> bool:
        found = await values(port, query)
        return bool(found) and found[0] >= count

    await eventually(is_there, 60, f"{count} handled")
    await asyncio.sleep(2.5)  # two more scrapes: nothing comes on top
    assert await values(port, query) == [count]
    assert await values(port, 'sum(mqkit_processes{service="plain"})') == [2]
    buckets = 'sum(mqkit_handler_seconds_bucket{service="plain",le="+Inf"})'
    assert await values(port, buckets) == [count]


async def _has_data(port: int) -> None:
    """Wait until each query of each panel has found a number."""
    missing = dict(panels())
    assert len(missing) > 20

    async def have_data() -> bool:
        for title, queries in list(missing.items()):
            found = [await values(port, as_prometheus(query)) for query in queries]
            if all(found):
                del missing[title]
        return not missing

    try:
        await eventually(have_data, 90, "data")
    except AssertionError:
        pytest.fail(f"panels without data: {missing}")


async def _rules_are_well(port: int) -> None:
    """Each was evaluated without an error, and dead letters are told of."""

    async def fires() -> bool:
        found = await answer(port, "rules")
        rules = [each for group in found["groups"] for each in group["rules"]]
        assert {each["name"] for each in rules} == {name for name, _ in alerts()}
        assert [each["lastError"] for each in rules if each["health"] == "err"] == []
        states = {each["name"]: each["state"] for each in rules}
        return bool(states["MqkitDeadLetters"] == "firing")

    await eventually(fires, 60, "the alert on dead letters")
