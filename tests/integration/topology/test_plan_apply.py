"""What differs from a broker, and what is left of it once it was applied."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mqkit import Exchange, Queue, Retry, Runtime, Service
from mqkit.broker.states import STATES
from mqkit.cli.app import app
from mqkit.cli.options import errors_as_exit_codes
from mqkit.errors import ManagementError, TopologyError
from mqkit.settings import BrokerUrl
from mqkit.testing.brokers.broker import Broker
from tests.integration.topology.support import (
    api_of,
    applied,
    management_of,
    payments,
    provisioning,
    service,
)
from tests.support import connected

ODD = 'a b"c/é€(x)[y]{z}+?|^$\\'


async def test_what_was_applied_leaves_nothing_to_plan(broker: Broker, mqkit_vhost: str) -> None:
    """Queues of all kinds, and of names with odd characters; the service runs on it."""
    made = Service("ledger", retry=Retry.never(), publishes=[Exchange("posted", type="fanout")])
    queues = (
        Queue(ODD),
        Queue("classic", type="classic", arguments={"x-max-length": 100}),
        Queue("parts", partitions=3),
    )
    for queue in queues:

        @made.handler(
            queue,
            bind=[payments.key("order.#"), payments.key("", {"a": 1})],
            order_by=(lambda body: body) if queue.partitions else None,
        )
        async def handle(body: bytes) -> None:
            """Do nothing."""

    management = management_of(broker)
    async with provisioning(mqkit_vhost, made, management=management) as (it, told):
        plan = await it.plan()
        assert {each.kind.value for each in plan.changes} == {"create"}
        assert await it.apply(plan) == ()
        assert len(told) == len(plan.changes)
        assert (await it.plan()).changes == ()
    async with Runtime(made, BrokerUrl.parse(mqkit_vhost)):
        pass
    assert await applied(mqkit_vhost, made, management=management) == []


async def test_old_bindings_are_seen_and_pruned(rabbitmq: Broker, name: str) -> None:
    """By the management API, which shows them."""
    management = api_of(rabbitmq)
    vhost = rabbitmq.add_vhost(name)
    try:
        await check_pruned(vhost, management)
    finally:
        rabbitmq.delete_vhost(name)


async def check_pruned(mqkit_vhost: str, management: str) -> None:
    """Bind a queue by hand, and have that taken away."""
    made = service(Queue("q"))
    assert await applied(mqkit_vhost, made, management=management) == []
    async with connected(mqkit_vhost) as client, client.channel() as channel:
        await channel.bind_queue("q", "payments", "former")
    async with provisioning(mqkit_vhost, made, management=management) as (it, _):
        (left,) = await it.apply(await it.plan())
        assert "unused" in str(left)
        assert "'former'" in str(left)
        assert await it.apply(await it.plan(), prune=True) == ()


async def test_an_exchange_that_differs_is_left(mqkit_embedded: Broker, name: str) -> None:
    """And all else is done."""
    url = mqkit_embedded.url
    made = Service(name, retry=Retry.never(), publishes=[Exchange(f"{name}.x")])

    @made.handler(Queue(f"{name}.q"))
    async def handle(body: bytes) -> None:
        """Do nothing."""

    async with connected(url) as client, client.channel() as channel:
        await channel.declare_exchange(f"{name}.x", "direct")
    (left,) = await applied(url, made)
    assert left.startswith("drift   exchange")
    assert "type is direct on the broker, topic here" in left


@pytest.mark.parametrize("by_management", [False, True])
@pytest.mark.parametrize(
    ("there", "words"),
    [
        ({"arguments": {"x-queue-type": "stream"}}, "a stream keeps what is read"),
        ({"arguments": {"x-queue-type": "stream", "x-max-age": "1h"}}, "a stream keeps"),
        ({"durable": False, "exclusive": True}, "it goes with its consumers"),
        ({"durable": False, "auto_delete": True}, "it goes with its consumers"),
        ({"auto_delete": True}, "it goes with its consumers"),
    ],
    ids=["stream", "stream with an age", "exclusive", "transient auto-delete", "auto-delete"],
)
async def test_a_queue_that_cannot_be_moved_is_left(
    rabbitmq: Broker, name: str, there: dict[str, Any], words: str, *, by_management: bool
) -> None:
    """No move of it is begun, which would hold what is published; nor is it said to be bound."""
    management = api_of(rabbitmq) if by_management else None
    vhost = rabbitmq.add_vhost(name)
    try:
        async with connected(vhost) as other, other.channel() as channel:
            await channel.declare_queue("q", **there)
            async with provisioning(vhost, service(Queue("q")), management=management) as (
                it,
                told,
            ):
                left = [str(each) for each in await it.apply(await it.plan())]
        assert [each.partition(":")[0] for each in left if "queue q" in each] == ["drift   queue q"]
        assert words in left[0]
        assert told == ["created exchange payments", "created queue q.dead"]
    finally:
        rabbitmq.delete_vhost(name)


async def test_a_management_api_of_another_broker_is_noticed(
    rabbitmq: Broker, mqkit_embedded: Broker
) -> None:
    """Before anything is changed."""
    management = api_of(rabbitmq)
    made = service(Queue("only.on.embedded"))
    async with connected(mqkit_embedded.url) as client:
        await client.declare("only.on.embedded")
        async with provisioning(mqkit_embedded.url, made, management=management) as (it, _):
            with pytest.raises(ManagementError, match="another broker"):
                await it.apply(await it.plan())


def run(*words: str) -> tuple[int, str]:
    """Run a command in this process; its exit code, and all that it printed."""

    def command() -> None:
        with errors_as_exit_codes():
            app(list(words), standalone_mode=False)

    import typer  # noqa: PLC0415

    outer = typer.Typer()
    outer.command()(command)
    result = CliRunner().invoke(outer, [])
    return result.exit_code, result.output + result.stderr


async def test_the_commands_say_by_their_exit_codes_what_there_is(
    mqkit_vhost: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """0: nothing differs; 1: something does, or the plan is stale; 2: called wrongly."""
    monkeypatch.setenv("MQKIT_URL", mqkit_vhost)
    monkeypatch.delenv("MQKIT_MANAGEMENT", raising=False)
    here, stored = "tests.integration.topology.services", tmp_path / "plan.json"

    async def mqkit(*words: str) -> tuple[int, str]:
        return await asyncio.to_thread(run, "topology", *words)

    code, said = await mqkit("plan", f"{here}:before", "--check", "--out", str(stored))
    assert (code, said.count("create")) == (1, 4)
    assert (await mqkit("apply", f"{here}:few", "--plan", str(stored)))[0] == 1
    assert (await mqkit("apply", f"{here}:before", "--plan", str(stored)))[0] == 0
    code, said = await mqkit("apply", f"{here}:before", "--plan", str(stored))
    assert code == 1
    assert "nothing was applied" in said
    assert (await mqkit("plan", f"{here}:before", "--check"))[0] == 0
    code, said = await mqkit("plan", f"{here}:wanted", "--json", "--target", "4.3")
    assert code == 0
    assert json.loads(said[: said.rindex("}") + 1])["version"] == 1
    stored.write_text("{")
    assert (await mqkit("apply", f"{here}:before", "--plan", str(stored)))[0] == 2
    assert (await mqkit("plan", f"{here}:before", "--target", "new"))[0] == 2
    assert (await mqkit("plan", f"{here}:before", "--management", "nonsense"))[0] == 2
    assert (await mqkit("plan", f"{here}:before", "--management", "http://a:b@127.0.0.1:1"))[0] == 1
    assert (await mqkit("graph", f"{here}:few", "--format", "svg"))[0] == 0
    assert (await mqkit("export", f"{here}:few", "--ladder"))[0] == 0
    assert (await mqkit("permissions", f"{here}:few"))[0] == 0


async def test_with_the_ladder_a_plan_lists_what_processes_say_how_they_are_by(
    mqkit_vhost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service that may declare nothing finds the exchange there, and the next plan is empty."""
    monkeypatch.setenv("MQKIT_URL", mqkit_vhost)
    monkeypatch.delenv("MQKIT_MANAGEMENT", raising=False)
    here = "tests.integration.topology.services:few"

    async def listed(*words: str) -> list[str]:
        _, said = await asyncio.to_thread(run, "topology", *words, here, "--ladder")
        return [line for line in said.splitlines() if "mqkit.delay.v1" in line or STATES in line]

    assert len(await listed("plan")) == 2
    assert await listed("apply") == ["created ladder mqkit.delay.v1", f"created exchange {STATES}"]
    assert await listed("plan") == []


async def test_nobody_else_moves_meanwhile(mqkit_vhost: str, broker: Broker) -> None:
    """A second one is refused, and the queue stays as it is."""
    management = management_of(broker)
    before, wanted = service(Queue("q", type="classic")), service(Queue("q"))
    assert await applied(mqkit_vhost, before, management=management) == []
    async with connected(mqkit_vhost) as other, other.channel() as channel:
        await channel.declare_queue("mqkit.delay.v1.move.lock", durable=False, exclusive=True)
        with pytest.raises(TopologyError, match="another `mqkit topology apply`"):
            await applied(mqkit_vhost, wanted, management=management)
