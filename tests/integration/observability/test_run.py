"""`mqkit run --http`: the pages of one process and of several, in processes of their own."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from mqkit import Outgoing
from mqkit.testing.brokers.broker import Broker
from tests.forked import finished
from tests.integration.observability.scraping import Samples, page, port_of, scraped, total
from tests.support import Client, connected, eventually, running

SERVICES = "tests.integration.observability.services"

CARD, TOKEN = "4111111111111111", "planted-token"


async def publish(client: Client, queue: str, bodies: list[dict[str, str]]) -> None:
    """Publish them, each with something in it that is nobody's business."""
    outgoing = (
        Outgoing("", queue, {"card": CARD, **body}, headers={"token": TOKEN}, message_id=f"{n}")
        for n, body in enumerate(bodies)
    )
    async for result in client.publisher.publish_many(outgoing):
        assert result.error is None


async def handled(port: int, count: int, **labels: str) -> Any:
    """Wait until so many are told as handled, and return the scrape."""
    found: list[Any] = []

    async def are_there() -> bool:
        found[:] = [await scraped(port)]
        return total(found[0], "mqkit_handled_total", **labels) >= count

    await eventually(are_there, 30, f"{count} handled")
    return found[0]


def environment(name: str, tmp_path: Path) -> dict[str, str]:
    """For the services of the tests."""
    return {
        "MQKIT_TEST_QUEUE": f"{name}.q",
        "MQKIT_TEST_DATABASE": f"sqlite:///{tmp_path / 'store.sqlite'}",
        "MQKIT_TEST_DOWN": str(tmp_path / "down"),
    }


@pytest.mark.parametrize("processes", ["1", "2"])
async def test_what_a_service_did_is_told_exactly_and_nothing_else(
    mqkit_embedded: Broker, name: str, tmp_path: Path, processes: str
) -> None:
    """Of one process or of two together; no card number, token or password is in it"""
    broker, log = mqkit_embedded, tmp_path / "log"
    options = ("--http", "0", "--processes", processes)
    names = environment(name, tmp_path)
    done = ["", "publish", "publish", "fail", "reject"]
    async with connected(broker.url) as client:
        with running(f"{SERVICES}:plain", broker.url, log, *options, **names) as process:
            port = await port_of(process)
            await eventually(lambda: _is_ready(port), 30, "the service to be ready")
            await publish(client, f"{name}.q", [{"do": done[n % 5]} for n in range(500)])
            found = await handled(port, 700)
            of = {"service": "plain", "handler": f"{SERVICES}.post", "queue": f"{name}.q"}
            outcomes = {"acked": 300, "retried": 200, "dead_lettered": 200, "lost": 0}
            for outcome, count in outcomes.items():
                assert total(found, "mqkit_handled_total", outcome=outcome, **of) == count
            assert total(found, "mqkit_retries_total", **of) == 200
            assert total(found, "mqkit_dead_letters_total", reason="rejected", **of) == 100
            assert total(found, "mqkit_handler_seconds_count", **of) == 700
            assert total(found, "mqkit_queue_seconds_count", **of) == 500
            # 200 of the handler, and the copies: 200 retries, 200 dead letters
            assert total(found, "mqkit_publishes_total", result="confirmed") == 600
            assert total(found, "mqkit_publishes_total") == 600
            assert total(found, "mqkit_confirm_seconds_count") == 600
            assert total(found, "mqkit_processes") == int(processes)
            assert total(found, "mqkit_consumers", status="consuming", **of) == int(processes)
            _, text = await page(port, "/metrics")
            _, ready = await page(port, "/readyz")
            assert await page(port, "/healthz") == (200, "alive\n")
            process.send(signal.SIGTERM)
            assert await process.ends() == 0, process.text()
    for secret in (CARD, TOKEN, "guest"):
        assert secret not in text + ready


async def _is_ready(port: int) -> bool:
    return (await page(port, "/readyz"))[0] == 200


async def test_sums_never_go_down_where_a_process_is_killed(
    mqkit_embedded: Broker, name: str, tmp_path: Path
) -> None:
    """What it had counted stays, its gauges go, and it is told that it was started again"""
    broker, log = mqkit_embedded, tmp_path / "log"
    options, names = ("--http", "0", "--processes", "2"), environment(name, tmp_path)
    async with connected(broker.url) as client:
        with running(f"{SERVICES}:plain", broker.url, log, *options, **names) as process:
            port = await port_of(process)
            await eventually(lambda: _is_ready(port), 30, "the service to be ready")
            await publish(client, f"{name}.q", [{"do": ""}] * 200)
            await handled(port, 200)
            seen: list[Samples] = []
            (pid,) = re.findall(r"process 2: started, pid (\d+)", process.text())
            os.kill(int(pid), signal.SIGKILL)
            await process.says("process 2 was killed by SIGKILL")
            while not (seen and total(seen[-1], "mqkit_process_restarts_total")):
                seen.append(await scraped(port))
                await asyncio.sleep(0.05)
            counts = [total(each, "mqkit_handled_total") for each in seen]
            assert counts == [200] * len(counts)
            assert 1 in {total(each, "mqkit_processes") for each in seen}
            await eventually(lambda: _is_ready(port), 30, "both to be ready")
            await publish(client, f"{name}.q", [{"do": ""}] * 100)
            found = await handled(port, 300)
            assert total(found, "mqkit_handled_total") == 300
            assert total(found, "mqkit_processes") == 2


@pytest.mark.parametrize("processes", ["1", "2"])
async def test_a_service_that_is_not_ready_says_what_is_not(
    mqkit_embedded: Broker, name: str, tmp_path: Path, processes: str
) -> None:
    """While it waits for a broker, while it pauses, and while it stops; alive it is all the time"""
    broker, log, names = mqkit_embedded, tmp_path / "log", environment(name, tmp_path)
    options = ("--http", "0", "--processes", processes)
    away = "amqp://127.0.0.1:1/"
    with running(f"{SERVICES}:plain", away, log, *options, **names) as process:
        port = await port_of(process)
        await eventually(lambda: _says(port, "starting"), 20, "that it starts")
        assert await page(port, "/healthz") == (200, "alive\n")
    log.unlink()
    (tmp_path / "down").touch()
    async with connected(broker.url) as client:
        with running(f"{SERVICES}:plain", broker.url, log, *options, **names) as process:
            port = await port_of(process)
            await eventually(lambda: _is_ready(port), 30, "the service to be ready")
            await publish(client, f"{name}.q", [{"do": "down"}])
            await eventually(lambda: _says(port, f"queue {name}.q: paused: "), 20, "the pause")
            await eventually(lambda: _counts(port, "mqkit_pauses_total"), 20, "the pause's count")
            (tmp_path / "down").unlink()
            await eventually(lambda: _is_ready(port), 30, "the service to go on")
            await publish(client, f"{name}.q", [{"do": "sleep", "seconds": "4"}])
            await eventually(lambda: _counts(port, "mqkit_in_flight"), 20, "the run")
            process.send(signal.SIGTERM)
            await eventually(lambda: _says(port, "stopping"), 4, "that it stops")
            assert await process.ends() == 0, process.text()


async def _says(port: int, words: str) -> bool:
    status, text = await page(port, "/readyz")
    return status == 503 and words in text


async def _counts(port: int, metric: str) -> bool:
    return total(await scraped(port), metric) > 0


async def test_what_is_waited_for_is_told_of_a_store_its_partitions_and_sagas(
    mqkit_embedded: Broker, name: str, tmp_path: Path
) -> None:
    """A retry in its place, the outbox, partitions that are owned, a saga that goes on"""
    broker, log, names = mqkit_embedded, tmp_path / "log", environment(name, tmp_path)
    async with connected(broker.url) as client:
        with running(f"{SERVICES}:whole", broker.url, log, "--http", "0", **names) as process:
            port = await port_of(process)
            await eventually(lambda: _is_ready(port), 30, "the service to be ready")
            bodies = [{"key": f"k{n % 7}", "do": "fail" if n == 3 else ""} for n in range(20)]
            await publish(client, f"{name}.q.ordered", bodies)
            await publish(client, f"{name}.q.saga", [{"key": "one"}])
            found = await handled(port, 21)
            of = {"handler": f"{SERVICES}.ordered", "queue": f"{name}.q.ordered"}
            assert total(found, "mqkit_handled_total", outcome="acked", **of) == 19
            assert total(found, "mqkit_handled_total", outcome="dead_lettered", **of) == 1
            assert total(found, "mqkit_retries_total", **of) == 1
            assert total(found, "mqkit_handler_seconds_count", **of) == 21
            assert total(found, "mqkit_partitions_owned", **of) == 2
            assert total(found, "mqkit_store_up") == 1
            await eventually(lambda: _counts(port, "mqkit_sagas"), 20, "the saga")
            found = await scraped(port)
            assert total(found, "mqkit_sagas", saga="payment", status="running") == 1
            assert total(found, "mqkit_outbox_messages") == 0


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_port_in_use_is_an_error_that_says_so(processes: str) -> None:
    """With the exit code of what failed; nothing is connected to"""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        options = ("--url", "amqp://127.0.0.1:1/", "--processes", processes, "--http", str(port))
        done = finished(("run", f"{SERVICES}:plain", *options), dict(os.environ))
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port} for metrics and health" in done.stderr
    assert "--http names another" in done.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--http", "x"), "is not [HOST:]PORT"),
        (("--http", "9464", "--buckets", "handler=2,1"), "rising seconds"),
        (("--buckets", "handler=1,2"), "--buckets are those of --http"),
        (("--http", "9464", "--reload"), "--reload has no metrics"),
    ],
)
def test_what_makes_no_sense_is_called_wrongly(options: tuple[str, ...], words: str) -> None:
    """Said before anything is started"""
    call = ("run", f"{SERVICES}:plain", "--url", "amqp://127.0.0.1:1/", *options)
    done = finished(call, {**os.environ, "COLUMNS": "300", "TERM": "dumb"})
    assert done.returncode == 2
    assert words in done.stderr
