"""A message that kills its worker."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from mqkit import Queue
from mqkit.broker.declare import declare
from mqkit.testing.brokers.finder import Broker
from mqkit.topology import Topology
from tests.support import ServiceProcess, connected, eventually, running

pytestmark = pytest.mark.long

DELIVERY_LIMIT = 3
"""As `tests.faults.services.poisoned` declares it."""


async def test_poison_is_dead_lettered_and_its_neighbours_are_handled(
    broker: Broker, name: str, tmp_path: Path
) -> None:
    """It ends in the dead letter queue within the delivery limit; all behind it are handled."""
    out, queue = tmp_path / "out", f"{name}.q"
    environment = {"MQKIT_TEST_QUEUE": queue, "MQKIT_TEST_OUT": str(out)}

    def noted(what: str) -> list[str]:
        return [line for line in out.read_text().splitlines() if line.startswith(what)]

    def handled() -> set[int]:
        # Each once: a kill may come before an ack, and its message is then handled again.
        return {int(line.split()[1]) for line in noted("done")}

    async with connected(broker.url) as client:
        deaths = 0
        out.touch()
        while len(handled()) < 12:
            with running(
                "tests.faults.services:poisoned", broker.url, tmp_path / "log", **environment
            ) as process:
                await process.says("consuming")
                if not deaths:
                    for n in range(13):
                        await client.publisher.publish(
                            "", queue, {"poison": n == 4}, message_id=str(n)
                        )
                await eventually(lambda: process.process.poll() is not None or len(handled()) >= 12)
                if process.process.poll() is not None:
                    assert process.process.returncode == -signal.SIGKILL
                    deaths += 1
                    assert deaths <= DELIVERY_LIMIT + 1
        dead = await client.take(f"{queue}.dead")
        assert await client.messages(f"{queue}.dead") == 0
    assert dead.properties.message_id == "4"
    assert len(noted("run 4")) <= DELIVERY_LIMIT + 1
    assert handled() == set(range(13)) - {4}
    # What the broker dead-letters by itself has only its own account of it.
    death = dead.properties.headers["x-death"]
    assert isinstance(death, list)
    assert isinstance(death[0], dict)
    assert (death[0]["queue"], death[0]["reason"]) == (queue, "delivery_limit")


@pytest.mark.parametrize("limit", [1, 3])
async def test_neighbours_survive_a_policys_lower_limit(
    rabbitmq: Broker, name: str, tmp_path: Path, limit: int
) -> None:
    """The service does not know of it, and lets no harmless message come back more than once."""
    out, queue = tmp_path / "out", f"{name}.q"
    environment = {"MQKIT_TEST_QUEUE": queue, "MQKIT_TEST_OUT": str(out)}
    out.touch()

    def handled() -> set[str]:
        return set(out.read_text().split()) - {"done"}

    policy = ("--apply-to", "queues", name, f"^{name}[.]q$", f'{{"delivery-limit":{limit}}}')
    rabbitmq.ctl("set_operator_policy", *policy)
    try:
        async with connected(rabbitmq.url) as client:

            async def ended() -> bool:
                return len(handled()) + await client.messages(f"{queue}.dead") >= 12

            await declare(client.connection.channel, Topology.of_queue(Queue(queue)))
            for n in range(12):
                await client.publisher.publish("", queue, {"poison": n == 5}, message_id=str(n))
            for _ in range(limit + 2):
                with running(
                    "tests.faults.services:crowded", rabbitmq.url, tmp_path / "log", **environment
                ) as process:

                    async def is_over(running: ServiceProcess = process) -> bool:
                        return running.process.poll() is not None or await ended()

                    await eventually(is_over, 30)
                if await ended():
                    break
            dead = await client.take(f"{queue}.dead")
            assert await client.messages(f"{queue}.dead") == 0
    finally:
        rabbitmq.ctl("clear_operator_policy", name)
    assert dead.properties.message_id == "5"
    assert handled() == {str(n) for n in range(12)} - {"5"}
