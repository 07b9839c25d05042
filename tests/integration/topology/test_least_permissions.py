"""A user with the printed permissions runs the service; with one fewer it is refused, by name."""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import re
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import pytest
from tenacity import stop_after_attempt, wait_fixed

from mqkit import BrokerUrl, Delivery, Exchange, Publisher, Queue, Reject, Retry, Runtime, Service
from mqkit.broker.states import STATES
from mqkit.cli.topology.messages import MovedMessages
from mqkit.errors import ChannelClosedError, MqkitError
from mqkit.observability.states import publishing
from mqkit.provisioning.apply import Provisioner
from mqkit.provisioning.permissions import Permissions, expression, permissions_of
from mqkit.provisioning.wanted import wanted_by
from mqkit.testing.brokers.broker import Broker
from tests.integration.topology.support import management_of
from tests.support import Client, connected, eventually

into, out = Exchange("in"), Exchange("out", type="fanout")


def service(done: set[str]) -> Service:
    """A service that does all that services do: retries, dead letters, publishes, order, later."""
    made = Service(
        "full", retry=Retry(stop=stop_after_attempt(2), wait=wait_fixed(0.1)), publishes=[out]
    )

    @made.handler(Queue("plain"), bind=[into.key("plain")])
    async def plain(body: bytes, delivery: Delivery, publisher: Publisher) -> None:
        if delivery.attempt == 1:
            raise ValueError("once more")
        await publisher.publish(out, "", b"now", mandatory=False)
        await publisher.publish(out, "", b"later", delay=0.1)
        done.add("plain")
        raise Reject("that was all")

    @made.handler(
        Queue("parts", partitions=2), bind=[into.key("parts")], order_by=lambda body: body
    )
    async def parts(body: bytes) -> None:
        done.add("parts")

    return made


class User:
    """A user of a virtual host of the test's own."""

    def __init__(self, broker: Broker, name: str) -> None:
        self._broker, self.name = broker, name
        management = management_of(broker)
        self._api = management
        host = urlsplit(broker.url).netloc.rpartition("@")[2]
        self.url = f"amqp://{name}:secret@{host}/{name}"
        self.admin = f"amqp://guest:guest@{host}/{name}"
        broker.ctl("add_user", name, "secret")
        self.renew()

    def renew(self) -> None:
        """Make its virtual host anew, with nothing in it."""
        if self._api is not None:
            self._api_call("DELETE", f"vhosts/{self.name}")
            self._api_call("PUT", f"vhosts/{self.name}")
            self._permit("guest", ".*", ".*", ".*")
            return
        with contextlib.suppress(MqkitError):
            self._broker.ctl("delete_vhost", self.name)
        self._broker.ctl("add_vhost", self.name)
        self._broker.ctl("set_permissions", "-p", self.name, "guest", ".*", ".*", ".*")

    def may(self, *expressions: str) -> None:
        """Set what it may configure, write and read."""
        if self._api is not None:
            self._permit(self.name, *expressions)
            return
        self._broker.ctl("set_permissions", "-p", self.name, self.name, *expressions)

    def _permit(self, user: str, *expressions: str) -> None:
        names = ("configure", "write", "read")
        found = dict(zip(names, expressions, strict=True))
        self._api_call("PUT", f"permissions/{self.name}/{user}", found)

    def _api_call(self, method: str, path: str, body: dict[str, str] | None = None) -> None:
        """Ask by HTTP, as a rabbitmqctl for each would take a minute."""
        url = urlsplit(management_of(self._broker) or "")
        connection = HTTPConnection(url.hostname or "", url.port, timeout=20)
        token = base64.b64encode(f"{url.username}:{url.password}".encode()).decode()
        headers = {"Authorization": f"Basic {token}", "Content-Type": "application/json"}
        with contextlib.closing(connection):
            connection.request(method, f"/api/{path}", json.dumps(body or {}), headers)
            connection.getresponse().read()

    def delete(self) -> None:
        """Delete it, and its virtual host."""
        self._broker.ctl("delete_user", self.name)
        self._broker.ctl("delete_vhost", self.name)


@contextlib.contextmanager
def user_of(broker: Broker, name: str) -> Iterator[User]:
    """Make a user for the block."""
    user = User(broker, name)
    try:
        yield user
    finally:
        user.delete()


async def run(user: User, **options: Any) -> None:
    """Run the service as this user, and see it do all that it does."""
    done: set[str] = set()
    async with connected(user.admin) as admin:
        runtime = Runtime(
            service(done),
            BrokerUrl.parse(user.url),
            connect_deadline=10,
            grace=0.1,
            states=True,
            **options,
        )
        async with runtime:
            await states_come(admin)
            await admin.declare("watch")
            async with admin.channel() as channel:
                await channel.bind_queue("watch", "out", "")
            for key in ("plain", "parts"):
                await admin.publisher.publish(into, key, b"1")
            await eventually(lambda: done == {"plain", "parts"}, 4.0)
            assert [(await admin.take("watch", 4.0)).body for _ in range(2)] == [b"now", b"later"]
            await admin.take("plain.dead", 4.0)


async def states_come(admin: Client) -> None:
    """See that the process says how it is."""

    async def is_there() -> bool:
        async with admin.channel() as channel:
            try:
                await channel.declare_exchange(STATES, "fanout", passive=True)
            except ChannelClosedError:
                return False
            return True

    await eventually(is_there, 4.0, "an exchange for states")
    await admin.declare("states")
    async with admin.channel() as channel:
        await channel.bind_queue("states", STATES, "")
    await admin.take("states", 4.0)


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let processes say often how they are."""
    monkeypatch.setattr(publishing, "STATES_EVERY", 0.05)


def fewer(found: Permissions) -> Iterator[tuple[str, tuple[str, str, str]]]:
    """Take away one pattern after the other; yield the name that it stands for, and the rest."""
    whole = (found.configure, found.write, found.read)
    for which, patterns in enumerate(whole):
        for one in patterns:
            rest = [
                [each for each in all_ if number != which or each != one]
                for number, all_ in enumerate(whole)
            ]
            configure, write, read = map(expression, rest)
            name = one.replace(r"\.[0-9]+", ".").replace(".+", "")
            yield re.sub(r"\\(.)", r"\1", name), (configure, write, read)


async def check(user: User, caplog: pytest.LogCaptureFixture) -> int:
    """Run it with all, and with one fewer of each; count those."""
    caplog.set_level(logging.WARNING)
    found = permissions_of(service(set()))
    user.may(*found.expressions)
    await run(user)
    count = 0
    for name, expressions in fewer(found):
        user.renew()
        user.may(*expressions)
        caplog.clear()
        said = ""
        try:
            await run(user)
        except (MqkitError, AssertionError) as error:
            said = f"{error}\n{caplog.text}"
        refused = [line for line in said.splitlines() if "access" in line.lower()]
        assert any(name in line for line in refused), (name, expressions, said)
        count += 1
    return count


async def test_with_one_permission_fewer_it_is_refused_by_name(
    mqkit_embedded: Broker, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Each of them in turn, on the embedded broker."""
    with user_of(mqkit_embedded, name) as user:
        assert await check(user, caplog) > 15


@pytest.mark.long
@pytest.mark.in_turn
@pytest.mark.timeout(400)
async def test_with_one_permission_fewer_rabbitmq_refuses_it_by_name(
    rabbitmq: Broker, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Each of them in turn, on RabbitMQ."""
    with user_of(rabbitmq, name) as user:
        assert await check(user, caplog) > 15


async def test_a_service_without_permission_to_configure_runs_where_all_is_there(
    broker: Broker, name: str
) -> None:
    """It declares nothing; where something is missing, it says what."""
    made = service(set())
    with user_of(broker, name) as user:
        user.may(*permissions_of(made, declares=False).expressions)
        with pytest.raises(MqkitError, match=r"queue plain: it does not exist"):
            await run(user, declare=False)
        async with connected(user.admin) as admin:
            provisioner = Provisioner(
                admin.connection,
                wanted_by([made]),
                broker="test",
                messages=MovedMessages(),
                ladder=True,
            )
            assert await provisioner.apply(await provisioner.plan()) == ()
            # What is published later takes levels of its own, and a way to its exchange.
            await admin.publisher.publish(out, "", b"0", delay=3600)
        await run(user, declare=False)
