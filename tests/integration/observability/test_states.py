"""What processes say of themselves on a broker, and a watcher that joins it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import aio_pika
import pytest
from tenacity import stop_after_attempt, wait_fixed

from mqkit import BrokerUrl, Exchange, Pause, Publisher, Queue, Reject, Retry, Runtime, Service
from mqkit.broker.states import STATES, declare_states
from mqkit.drivers.base import Incoming
from mqkit.message import Message
from mqkit.observability.states import publishing
from mqkit.overview import Overview, Role, ServiceView, Watcher
from mqkit.pause import Status
from mqkit.store import Store, Transaction
from mqkit.testing.brokers.broker import Broker
from mqkit.testing.brokers.embedded import EmbeddedBroker
from tests.integration.observability.test_run import SERVICES, environment
from tests.integration.observability.test_secrets import CARD, PASSWORD, SECRETS, TOKEN
from tests.integration.topology.support import management_of
from tests.simulated_states import simulated
from tests.support import Client, connected, eventually, running

pytestmark = pytest.mark.in_turn(embedded=True)


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let processes of the test say often how they are."""
    monkeypatch.setattr(publishing, "STATES_EVERY", 0.1)


def ledger(name: str, **options: object) -> Service:
    """A service whose handler does what the body says."""
    retry = Retry(stop=stop_after_attempt(2), wait=wait_fixed(0.05))
    service = Service(name, retry=retry, **options)  # type: ignore[arg-type]
    events = Exchange(f"{name}.events", mandatory=False)

    @service.handler(Queue(f"{name}.q"))
    async def post(body: str, publisher: Publisher) -> None:
        if body == "fail":
            raise ValueError(body)
        if body == "reject":
            raise Reject(body)
        await publisher.publish(events, "posted", body)

    return service


@contextlib.asynccontextmanager
async def heard(client: Client) -> AsyncIterator[list[Incoming]]:
    """All that comes to the exchange of states during the block."""
    found: list[Incoming] = []
    async with client.channel() as channel:
        await declare_states(channel)
        queue = await channel.declare_queue("", durable=False, exclusive=True)
        await channel.bind_queue(queue.name, STATES, "")
        await channel.consume(queue.name, found.append, lambda: None, no_ack=True)
        yield found


def service_of(overview: Overview, name: str) -> ServiceView | None:
    """The service of this name, if it is seen."""
    return next((each for each in overview.services if each.name == name), None)


async def seen(watcher: Watcher, name: str, within: float = 15.0) -> ServiceView:
    """Wait until a service is seen."""

    async def is_there() -> bool:
        return service_of(await watcher.look(), name) is not None

    await eventually(is_there, within, f"service {name} to be seen")
    service = service_of(watcher.overview(), name)
    assert service is not None
    return service


@pytest.mark.usefixtures("driver")
async def test_a_service_is_seen_with_what_it_has_done(mqkit_vhost: str, name: str) -> None:
    """Outcomes, publishes and queues are those that there were; at its end it is gone at once."""
    async with Watcher(mqkit_vhost, every=0.2) as watcher, connected(mqkit_vhost) as client:
        runtime = Runtime(ledger(name), BrokerUrl.parse(mqkit_vhost), states=True)
        async with runtime:
            for body in ["ok"] * 6 + ["fail"] * 2 + ["reject"]:
                await client.publisher.publish("", f"{name}.q", body)

            async def are_counted() -> bool:
                service = service_of(await watcher.look(), name)
                return service is not None and any(
                    each.outcomes.dead_lettered == 3 for each in service.handlers
                )

            await eventually(are_counted, 15)
            overview = watcher.overview()
        service = service_of(overview, name)
        assert service is not None
        (handler,) = service.handlers
        assert (handler.queue, handler.outcomes.acked, handler.outcomes.retried) == (
            f"{name}.q",
            6,
            2,
        )
        assert handler.consumers == {Status.CONSUMING: 1}
        assert handler.rate > 0
        assert handler.failing == pytest.approx(5 / 11)
        assert handler.mean_seconds is not None
        assert service.published == {"confirmed": 6 + 2 + 3}
        (process,) = service.processes
        assert (process.is_ready, process.server) == (True, overview.server)
        queues = {each.name: each for each in overview.queues}
        assert queues[f"{name}.q"].role is Role.WORK
        assert (queues[f"{name}.q.dead"].role, queues[f"{name}.q.dead"].ready) == (Role.DEAD, 3)

        async def is_gone() -> bool:
            return service_of(await watcher.look(), name) is None

        await eventually(is_gone, 5)


async def test_a_service_on_the_applications_own_connection_is_seen(
    mqkit_vhost: str, name: str
) -> None:
    """That connection carries the states, too, and is left open at the end."""
    async with (
        await aio_pika.connect(mqkit_vhost) as connection,
        Watcher(mqkit_vhost, every=0.2) as watcher,
    ):
        async with Runtime(ledger(name, connection=connection), states=True):
            await seen(watcher, name)
        assert not connection.is_closed


async def test_each_process_says_how_it_stops(mqkit_vhost: str, name: str) -> None:
    """running, stopping while it drains, ended; and no task is left then."""
    release = asyncio.Event()
    service = Service(name, retry=Retry.never())

    @service.handler(Queue(f"{name}.q"))
    async def wait(body: bytes) -> None:
        await release.wait()

    before = asyncio.all_tasks()
    async with connected(mqkit_vhost) as client, heard(client) as found:

        def phases() -> list[str]:
            return list(dict.fromkeys(json.loads(each.body)["phase"] for each in found))

        async with Runtime(service, BrokerUrl.parse(mqkit_vhost), states=True) as runtime:
            await client.publisher.publish("", f"{name}.q", b"1")
            await eventually(lambda: runtime.in_flight == 1 and "running" in phases())
            asyncio.get_running_loop().call_later(0.5, release.set)
        await eventually(lambda: "ended" in phases())
        assert phases()[-3:] == ["running", "stopping", "ended"]
        last = json.loads(found[-1].body)
        assert (last["phase"], last["handlers"][0]["acked"]) == ("ended", 1)
        assert len({json.loads(each.body)["id"] for each in found}) == 1
        assert all(not each.properties.persistent for each in found)
    await eventually(lambda: asyncio.all_tasks() == before, 5)


async def test_without_states_nothing_is_declared_and_nothing_said(
    mqkit_vhost: str, name: str
) -> None:
    """A `Runtime` says nothing unless it is asked to."""
    async with Runtime(ledger(name), BrokerUrl.parse(mqkit_vhost)):
        await asyncio.sleep(0.3)
        async with connected(mqkit_vhost) as client:
            channel = await client.connection.channel()
            with pytest.raises(Exception, match=STATES):
                await channel.declare_exchange(STATES, "fanout", passive=True)


async def test_no_secret_is_in_a_state(mqkit_vhost: str, name: str) -> None:
    """Card number, password and token are in bodies, headers, errors, pauses and the URL alone."""
    retry = Retry(stop=stop_after_attempt(2), wait=wait_fixed(0.05))
    service = Service(name, retry=retry)
    problem = f"card {CARD}, password={PASSWORD}, Authorization: Bearer {TOKEN}"

    @service.handler(Queue(f"{name}.q"))
    async def fails(body: dict[str, str]) -> None:
        raise ValueError(problem)

    @service.handler(
        Queue(f"{name}.pauses"), pause=Pause(on=ConnectionError, minimum=1, rate=0.01, every=60)
    )
    async def pauses(body: dict[str, str]) -> None:
        raise ConnectionError(f"amqp://user:{PASSWORD}@host/ {problem}")

    async with (
        connected(mqkit_vhost) as client,
        heard(client) as found,
        Runtime(service, BrokerUrl.parse(mqkit_vhost), states=True),
    ):
        body = {"card": CARD, "token": TOKEN}
        headers = {"authorization": f"Bearer {TOKEN}", "password": PASSWORD}
        for queue in ("q", "pauses"):
            await client.publisher.publish("", f"{name}.{queue}", body, headers=headers)
        await eventually(lambda: b"ConnectionError" in found[-1].body if found else False)
        await eventually(lambda: b'"dead_lettered":1' in found[-1].body)
    told = b"".join(each.body + repr(each.properties).encode() for each in found).decode()
    assert "paused" in told
    for secret in (*SECRETS, "amqp://", "guest"):
        assert secret not in told


async def test_a_store_and_partitions_are_seen(mqkit_vhost: str, name: str, tmp_path: Path) -> None:
    """What waits in the outbox, and which process has which partition."""
    store = Store(f"sqlite:///{tmp_path / 'store.sqlite'}")
    service = Service(name, retry=Retry.never(), store=store)

    @service.handler(Queue(f"{name}.q", partitions=2), order_by=lambda body: body)
    async def keep(body: str, transaction: Transaction) -> None:
        """Do nothing in a transaction."""

    async with (
        Watcher(mqkit_vhost, every=0.2) as watcher,
        connected(mqkit_vhost) as client,
        Runtime(service, BrokerUrl.parse(mqkit_vhost), states=True),
    ):
        await seen(watcher, name)
        for key in "abcdefgh":
            await client.publisher.publish("", f"{name}.q", key)

        async def are_owned() -> bool:
            service = service_of(await watcher.look(), name)
            owners = [] if service is None else [each.owners for each in service.handlers]
            return bool(owners) and all(owners[0].values())

        await eventually(are_owned, 15)
        service_seen = await seen(watcher, name)
        (process,) = service_seen.processes
        assert service_seen.handlers[0].owners == {
            f"{name}.q.0": process.id,
            f"{name}.q.1": process.id,
        }
        assert service_seen.store is not None
        assert (service_seen.store.is_up, service_seen.store.waiting) == (True, 0)
        roles = {each.name: each.role for each in watcher.overview().queues}
        assert roles[f"{name}.q.1"] is Role.PARTITION


async def test_the_management_api_tells_of_all_queues(rabbitmq: Broker, name: str) -> None:
    """Also of those that no service has, with rates, unacked messages and types."""
    url = rabbitmq.add_vhost(name)
    try:
        async with (
            connected(url) as client,
            Watcher(url, management_of(rabbitmq), every=0.2) as watcher,
        ):
            await client.declare("somebody")
            await client.publisher.publish("", "somebody", b"1")

            async def is_there() -> bool:
                overview = await watcher.look()
                return any(each.ready == 1 for each in overview.queues)

            await eventually(is_there, 30, "the queue to be listed")
            overview = watcher.overview()
    finally:
        rabbitmq.ctl("delete_vhost", name)
    (queue,) = (each for each in overview.queues if each.name == "somebody")
    assert (queue.role, queue.kind, queue.unacked, queue.consumers) == (Role.OTHER, "quorum", 0, 0)
    assert queue.rate_in is not None
    assert overview.problems == ()
    assert not any(each.name.startswith("amq.gen") for each in overview.queues)


async def test_a_management_api_that_is_away_is_a_problem_by_name(
    mqkit_vhost: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Without its password; it is logged once, and processes are seen all the same."""
    management = f"http://guest:{PASSWORD}@127.0.0.1:1"
    async with (
        simulated(mqkit_vhost, processes=2, queues=2),
        Watcher(mqkit_vhost, management, every=0.05) as watcher,
    ):
        await eventually(lambda: len(watcher.overview().services) == 2)
        await eventually(lambda: bool(watcher.overview().problems))
        await asyncio.sleep(0.5)
        (problem,) = watcher.overview().problems
    assert "management API: http://127.0.0.1:1" in problem
    assert PASSWORD not in problem + caplog.text
    assert caplog.text.count("management API: ") == 1


async def test_what_strangers_publish_there_is_ignored(
    mqkit_vhost: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Nonsense, another version, megabytes: the processes are seen, and a problem says so."""
    async with (
        connected(mqkit_vhost) as client,
        Watcher(mqkit_vhost, every=0.1) as watcher,
        simulated(mqkit_vhost, processes=2, queues=2, every=0.2),
    ):
        await eventually(lambda: len(watcher.overview().services) == 2)
        for body in (b"", b'{"v": 2}', b"\xff", b"x" * 10_000_000, b'"\xed\xa0\x80"'):
            for _ in range(3):
                await client.publisher.send(Message(STATES, "", body))
        await eventually(lambda: any("15 messages" in p for p in watcher.overview().problems))
        await eventually(lambda: len(watcher.overview().services) == 2)
    assert 1 <= caplog.text.count("is ignored") <= 5


async def test_states_come_again_after_a_restart_of_the_broker(
    name: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Meanwhile the process is seen as it was, not as silent; its service runs on."""
    # A busy machine may take a second for what is done ten times in it.
    monkeypatch.setattr(publishing, "STATES_EVERY", 2.0)
    with EmbeddedBroker() as broker:
        url = BrokerUrl.parse(broker.url)
        async with (
            Runtime(ledger(name), url, states=True),
            Watcher(broker.url, every=0.1) as watcher,
        ):
            await seen(watcher, name)
            await asyncio.to_thread(broker.stop)
            await eventually(lambda: not watcher.is_connected)
            await asyncio.sleep(7.0)  # more than three intervals
            overview = await watcher.look()
            assert "not connected to the broker" in overview.problems[0]
            (process,) = (await seen(watcher, name)).processes
            assert not process.is_silent
            await asyncio.to_thread(broker.start)
            began = watcher.overview().at

            async def is_heard() -> bool:
                service = service_of(await watcher.look(), name)
                return service is not None and service.processes[0].seen_at > began

            await eventually(is_heard, 40)
            assert watcher.is_connected
    assert "state" not in "".join(
        record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR
    )


async def test_nothing_is_said_while_the_broker_blocks_publishers(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """And nothing of that time comes later."""
    with EmbeddedBroker() as broker:
        async with (
            connected(broker.url) as client,
            heard(client) as found,
            Runtime(ledger(name), BrokerUrl.parse(broker.url), states=True),
        ):
            await eventually(lambda: bool(found))
            await asyncio.to_thread(broker.block)
            await eventually(lambda: "blocks publishers" in caplog.text)
            await asyncio.sleep(0.3)  # what was written before has come
            count = len(found)
            await asyncio.sleep(1.0)
            assert len(found) == count
            await asyncio.to_thread(broker.unblock)
            await eventually(lambda: len(found) > count + 1)
            # The one at which the broker began to block was written, and is read now.
            ups = [json.loads(each.body)["up"] for each in found]
            assert max(later - up for up, later in itertools.pairwise(ups)) >= 1.0


@pytest.mark.parametrize("declare", [True, False], ids=["declares", "--no-declare"])
async def test_a_user_who_may_not_is_told_once_and_runs_on(
    mqkit_embedded: Broker, name: str, caplog: pytest.LogCaptureFixture, declare: bool
) -> None:
    """Without a permission for the exchange, or without the exchange."""
    host = mqkit_embedded.url.rpartition("@")[2].rstrip("/")
    mqkit_embedded.ctl("add_vhost", name)
    mqkit_embedded.ctl("set_permissions", "-p", name, "guest", ".*", ".*", ".*")
    mqkit_embedded.ctl("add_user", name, "secret")
    ours = rf"^({name}|mqkit\.delay|amq\.default)"
    mqkit_embedded.ctl("set_permissions", "-p", name, name, ours, ours, rf"{ours}|^{name}\.q")
    admin = f"amqp://guest:guest@{host}/{name}"
    service = ledger(name)
    async with connected(admin) as client:
        async with Runtime(service, BrokerUrl.parse(admin)):
            pass
        url = BrokerUrl.parse(f"amqp://{name}:secret@{host}/{name}")
        async with Runtime(service, url, states=True, declare=declare):
            await eventually(lambda: "is not seen by `mqkit top`" in caplog.text)
            await client.publisher.publish("", f"{name}.q", "reject")
            await client.take(f"{name}.q.dead")
    lines = [r.getMessage() for r in caplog.records if "is not seen by" in r.getMessage()]
    assert len(lines) == 1
    assert STATES in lines[0]
    assert "--no-states" in lines[0]


async def test_who_watches_needs_no_permission_but_for_states(broker: Broker, name: str) -> None:
    """And to read the queues that it asks for by AMQP."""
    host = broker.url.rpartition("@")[2].partition("/")[0]
    broker.ctl("add_vhost", name)
    try:
        broker.ctl("set_permissions", "-p", name, "guest", ".*", ".*", ".*")
        broker.ctl("add_user", name, "secret")
        ours = r"^mqkit\.states\.v1"
        broker.ctl("set_permissions", "-p", name, name, ours, ours, rf"{ours}|^{name}\.q")
        admin = BrokerUrl.parse(f"amqp://guest:guest@{host}/{name}")
        async with (
            Watcher(f"amqp://{name}:secret@{host}/{name}", every=0.2) as watcher,
            Runtime(ledger(name), admin, states=True),
        ):
            await seen(watcher, name)
            await eventually(lambda: len(watcher.overview().queues) == 2)
            (problem,) = watcher.overview().problems
            assert "no management API" in problem
    finally:
        broker.ctl("delete_vhost", name)
        broker.ctl("delete_user", name)


@pytest.mark.parametrize("options", [(), ("--processes", "2"), ("--no-states",)])
async def test_mqkit_run_says_how_each_process_is(
    mqkit_vhost: str, name: str, tmp_path: Path, options: tuple[str, ...]
) -> None:
    """One process or several, each by itself; with --no-states none."""
    count = {"--processes": 2, "--no-states": 0}.get(options[0] if options else "", 1)
    names = environment(name, tmp_path)
    async with Watcher(mqkit_vhost, every=0.2) as watcher, connected(mqkit_vhost) as client:
        with running(
            f"{SERVICES}:plain", mqkit_vhost, tmp_path / "log", *options, **names
        ) as process:
            await process.says("running ")
            if count:

                def processes() -> int:
                    service = service_of(watcher.overview(), "plain")
                    return 0 if service is None else sum(p.is_ready for p in service.processes)

                await eventually(lambda: processes() == count, 30, f"{count} processes")
                for _ in range(10):
                    await client.publisher.publish("", f"{name}.q", {"do": "publish"})

                async def are_counted() -> bool:
                    service = service_of(await watcher.look(), "plain")
                    return service is not None and service.published == {"confirmed": 10}

                await eventually(are_counted, 15)
                service = await seen(watcher, "plain")
                assert service.handlers[0].outcomes.acked == 10
            else:
                await asyncio.sleep(1.0)
                assert service_of(await watcher.look(), "plain") is None
            process.send(signal.SIGTERM)
            assert await process.ends() == 0, process.text()
            assert not re.search("was never retrieved|Task was destroyed", process.text())
