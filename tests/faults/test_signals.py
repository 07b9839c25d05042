"""SIGTERM and SIGINT: what is in flight finishes or goes back, and the process ends."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from mqkit.testing.brokers.finder import Broker
from tests.support import connected, eventually, running

pytestmark = pytest.mark.in_turn


def lines(out: Path) -> list[str]:
    """What the service noted."""
    return out.read_text().split("\n")[:-1] if out.exists() else []


@pytest.mark.parametrize("service", ["slow", "threaded"])
async def test_within_the_grace_period_the_handler_finishes(
    broker: Broker, name: str, tmp_path: Path, service: str
) -> None:
    """On SIGTERM the handler in flight finishes and is acked, what waits stays, and it exits 0."""
    out, queue = tmp_path / "out", f"{name}.q"
    environment = {"MQKIT_TEST_QUEUE": queue, "MQKIT_TEST_OUT": str(out)}
    async with connected(broker.url) as client:
        with running(
            f"tests.faults.services:{service}", broker.url, tmp_path / "log", **environment
        ) as process:
            await process.says("consuming")
            for _ in range(3):
                await client.publisher.publish("", queue, {"seconds": 1.5})
            await eventually(lambda: lines(out) == ["began"])
            process.send(signal.SIGTERM)
            assert await process.ends() == 0
            log = process.text()
        assert lines(out) == ["began", "finished"]
        # The one that ran is acked; the two that were prefetched are back, and none was rejected.
        assert await client.messages(queue) == 2
        assert await client.messages(f"{queue}.dead") == 0
    for words in (
        "connecting to amqp://guest@",
        f"connected to {broker.server}",
        "running tests.faults.services.",
        "consuming",
        "SIGTERM: stopping",
        "draining, 1 in flight",
        "stopped",
    ):
        assert words in log
    assert "guest:guest" not in log


@pytest.mark.parametrize("service", ["slow", "threaded", "stubborn"])
async def test_past_the_grace_period_the_message_is_requeued(
    broker: Broker, name: str, tmp_path: Path, service: str
) -> None:
    """Past it the message goes back to its queue, not to the dead letters, and it exits 1."""
    out, queue = tmp_path / "out", f"{name}.q"
    environment = {"MQKIT_TEST_QUEUE": queue, "MQKIT_TEST_OUT": str(out)}
    async with connected(broker.url) as client:
        with running(
            f"tests.faults.services:{service}",
            broker.url,
            tmp_path / "log",
            "--grace",
            "0.5",
            **environment,
        ) as process:
            await process.says("consuming")
            await client.publisher.publish("", queue, {"seconds": 60.0}, message_id="m")
            await eventually(lambda: lines(out) == ["began"])
            began = time.monotonic()
            process.send(signal.SIGTERM)
            assert await process.ends(15) == 1
            assert 0.4 < time.monotonic() - began < 10
            assert "did not finish in time; requeued" in process.text()
        assert await client.messages(f"{queue}.dead") == 0
        back = await client.take(queue)
    assert (back.properties.message_id, back.redelivered) == ("m", True)


async def test_a_second_signal_ends_the_grace_period(
    broker: Broker, name: str, tmp_path: Path
) -> None:
    """SIGINT twice does not wait for the handler, and gives its message back."""
    out, queue = tmp_path / "out", f"{name}.q"
    environment = {"MQKIT_TEST_QUEUE": queue, "MQKIT_TEST_OUT": str(out)}
    async with connected(broker.url) as client:
        with running(
            "tests.faults.services:slow", broker.url, tmp_path / "log", **environment
        ) as process:
            await process.says("consuming")
            await client.publisher.publish("", queue, {"seconds": 60.0})
            await eventually(lambda: lines(out) == ["began"])
            process.send(signal.SIGINT)
            await process.says("draining")
            process.send(signal.SIGINT)
            assert await process.ends(10) == 1
        assert await client.messages(queue) == 1


async def test_an_idle_service_stops_at_once(broker: Broker, name: str, tmp_path: Path) -> None:
    """SIGTERM without anything in flight ends the process with 0, far within the grace period."""
    with running(
        "tests.faults.services:slow",
        broker.url,
        tmp_path / "log",
        MQKIT_TEST_QUEUE=f"{name}.q",
    ) as process:
        await process.says("consuming")
        process.send(signal.SIGTERM)
        assert await process.ends(10) == 0


async def test_a_service_stops_while_its_broker_is_away(tmp_path: Path) -> None:
    """SIGTERM ends a service that is still trying to connect."""
    with running(
        "tests.faults.services:slow", "amqp://guest:guest@127.0.0.1:1/", tmp_path / "log"
    ) as process:
        await process.says("trying again")
        process.send(signal.SIGTERM)
        assert await process.ends(10) == 0


@pytest.mark.parametrize("service", ["slow", "threaded"])
async def test_an_interrupt_drains_as_sigterm_does(
    mqkit_embedded: Broker, name: str, tmp_path: Path, service: str
) -> None:
    """Ctrl-C lets the handler in flight finish, in the loop and in a thread, and it exits 0."""
    out, queue = tmp_path / "out", f"{name}.q"
    environment = {"MQKIT_TEST_QUEUE": queue, "MQKIT_TEST_OUT": str(out)}
    async with connected(mqkit_embedded.url) as client:
        with running(
            f"tests.faults.services:{service}", mqkit_embedded.url, tmp_path / "log", **environment
        ) as process:
            await process.says("consuming")
            await client.publisher.publish("", queue, {"seconds": 1.0})
            await eventually(lambda: lines(out) == ["began"])
            process.send(signal.SIGINT)
            assert await process.ends() == 0, process.text()
        assert lines(out) == ["began", "finished"]
        assert await client.messages(queue) == 0
    assert "SIGINT: stopping" in process.text()


@pytest.mark.parametrize("service", ["interrupting", "interrupting_loop"])
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_what_a_handler_raises_ends_no_process(
    mqkit_embedded: Broker, name: str, tmp_path: Path, service: str, loop: str
) -> None:
    """A KeyboardInterrupt or SystemExit of its own fails its message, and all else goes on."""
    out, queue = tmp_path / "out", f"{name}.q"
    environment = {"MQKIT_TEST_QUEUE": queue, "MQKIT_TEST_OUT": str(out)}
    async with connected(mqkit_embedded.url) as client:
        with running(
            f"tests.faults.services:{service}",
            mqkit_embedded.url,
            tmp_path / "log",
            *("--loop", loop),
            **environment,
        ) as process:
            await process.says("consuming")
            for raises in ("KeyboardInterrupt", "SystemExit", "nothing"):
                await client.publisher.publish("", queue, {"raises": raises}, message_id=raises)
            await eventually(lambda: len(lines(out)) == 3, what=f"three runs in {process.text()}")
            dead = [(await client.take(f"{queue}.dead")).properties.message_id for _ in range(2)]
            process.send(signal.SIGTERM)
            assert await process.ends() == 0, process.text()
        assert sorted(map(str, dead)) == ["KeyboardInterrupt", "SystemExit"]
        assert await client.messages(queue) == 0
