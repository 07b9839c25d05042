"""`mqkit relay` and `mqkit status`, as processes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import make_url

from mqkit.store import Store
from mqkit.testing.brokers.finder import Broker
from tests.forked import Command
from tests.integration.observability.scraping import page, port_of, scraped, total
from tests.integration.test_cli import SECRET, mqkit
from tests.support import ServiceProcess, connected, eventually, peer

pytestmark = pytest.mark.in_turn


@contextlib.contextmanager
def relay_process(log: Path, *options: str, **environment: str) -> Iterator[ServiceProcess]:
    """`mqkit relay`, killed at the end if it still runs."""
    with log.open("ab") as out:
        process = Command(
            ["relay", *options], env={**os.environ, **environment}, stdout=out, stderr=out
        )
    try:
        yield ServiceProcess(process, log)
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_publishes_the_outbox_until_a_signal(
    broker: Broker, database: str, name: str, tmp_path: Path, number: signal.Signals
) -> None:
    """What was there, and what is committed meanwhile; then it stops with 0, and says no secret."""
    secrets = {"MQKIT_STORE": database, "MQKIT_URL": broker.url}
    async with Store(database, relay=False) as store, connected(broker.url) as client:
        await client.declare(f"{name}.out")

        async def commit(message_id: str) -> None:
            async with store.transaction() as transaction:
                await transaction.publish("", f"{name}.out", b"", message_id=message_id)

        await commit("before")
        with relay_process(tmp_path / "log", **secrets) as process:
            assert (await client.take(f"{name}.out")).properties.message_id == "before"
            await commit("meanwhile")
            assert (await client.take(f"{name}.out")).properties.message_id == "meanwhile"
            process.send(number)
            assert await process.ends() == 0, process.text()
        assert await store.pending() == 0
    for url in secrets.values():
        password = make_url(url).password
        assert password in (None, "guest") or password not in process.text()
    assert "relay: stopped" in process.text()
    done = mqkit("status", "before", "--store", database)
    assert (done.returncode, done.stdout) == (1, "")
    assert "knows no message before" in done.stderr


async def test_its_metrics_count_what_it_has_published(
    broker: Broker, database: str, name: str, tmp_path: Path
) -> None:
    """With `--http` it is ready, counts each message once, and says what waits in the outbox."""
    options = ("--store", database, "--url", broker.url, "--http", "0")
    async with Store(database, relay=False) as store, connected(broker.url) as client:
        await client.declare(f"{name}.out")
        with relay_process(tmp_path / "log", *options) as process:
            async with store.transaction() as transaction:
                for number in range(3):
                    await transaction.publish("", f"{name}.out", b"", message_id=f"m{number}")
            port = await port_of(process)

            async def has_counted() -> bool:
                counted = await scraped(port)
                return total(counted, "mqkit_publishes_total", result="confirmed") == 3

            await eventually(has_counted)
            assert await page(port, "/readyz") == (200, "ready\n")
            assert total(await scraped(port), "mqkit_store_up", service="mqkit.relay") == 1
            process.send(signal.SIGTERM)
            assert await process.ends() == 0, process.text()


async def test_a_signal_ends_it_while_the_broker_is_away(tmp_path: Path, database: str) -> None:
    """It was still trying to connect."""
    async with peer(b"") as port:
        options = ("--url", f"amqp://u:{SECRET}@127.0.0.1:{port}/", "--store", database)
        with relay_process(tmp_path / "log", *options) as process:

            async def made_tables() -> bool:
                with contextlib.suppress(Exception):
                    async with Store(database, relay=False, create_tables=False):
                        return True
                return False

            await eventually(made_tables)
            process.send(signal.SIGTERM)
            assert await process.ends() == 0, process.text()
        assert SECRET not in process.text()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["relay", "--url", "amqp://h"], 2, "set MQKIT_STORE"),
        (["relay", "--store", "sqlite:///x"], 2, "set MQKIT_URL"),
        (["relay", "--store", f"mysql://u:{SECRET}@h/d", "--url", "amqp://h"], 2, "not 'mysql'"),
        (["relay", "--store", "sqlite:///x", "--url", "amqp://h", "--driver", "no"], 2, "no"),
        (["relay", "--store", "sqlite:///x", "--url", "amqp://h", "--log-level", "x"], 2, "x"),
        (
            ["relay", "--store", f"postgresql://u:{SECRET}@127.0.0.1:1/d", "--url", "amqp://h"],
            1,
            "ConnectionRefusedError",
        ),
        (["relay", "--store", "sqlite:///x", "--url", "amqp://h", "--http", "x"], 2, "[HOST:]PORT"),
        (["status", "m", "--store", f"postgresql://u:{SECRET}@127.0.0.1:1/d"], 1, "Connect call"),
        (["status"], 2, "MESSAGE_ID"),
    ],
)
def test_what_cannot_work_is_one_line_and_a_code(
    arguments: list[str], code: int, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a traceback and without a password."""
    monkeypatch.delenv("MQKIT_STORE", raising=False)
    done = mqkit(*arguments)
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert SECRET not in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


async def test_status_of_a_store_on_a_server(database: str) -> None:
    """The states of a message as one JSON object."""
    async with Store(database, relay=False) as store, store.transaction() as transaction:
        await transaction.publish("e", "k", b"", message_id="m")
    done = mqkit("status", "m", "--json", "--store", database)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["states"][0]["state"] == "outgoing"
