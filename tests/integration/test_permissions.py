"""Users who may configure little: what works for them, and what an error says that does not."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from tenacity import stop_after_attempt, wait_fixed

from mqkit import (
    BrokerUrl,
    Delivery,
    Exchange,
    PublishRefusedError,
    Queue,
    Retry,
    Runtime,
    Service,
    TopologyError,
)
from mqkit.broker.delays import PREFIX
from mqkit.testing.brokers.broker import Broker
from tests.support import connected, eventually


class User:
    """A user of a virtual host of the test's own."""

    def __init__(self, broker: Broker, name: str) -> None:
        self._ctl, self.name = broker.ctl, name
        host = urlsplit(broker.url).netloc.rpartition("@")[2]
        self.url = f"amqp://{name}:secret@{host}/{name}"
        self.admin = f"amqp://guest:guest@{host}/{name}"
        self._ctl("add_vhost", name)
        self._ctl("set_permissions", "-p", name, "guest", ".*", ".*", ".*")
        self._ctl("add_user", name, "secret")

    def may(self, configure: str, write: str, read: str) -> None:
        """Set permissions, each a regular expression."""
        self._ctl("set_permissions", "-p", self.name, self.name, configure, write, read)

    def delete(self) -> None:
        """Delete the user and the virtual host."""
        self._ctl("delete_user", self.name)
        self._ctl("delete_vhost", self.name)


@pytest.fixture
def user(rabbitmq: Broker, name: str) -> Iterator[User]:
    """A user without permissions."""
    made = User(rabbitmq, name)
    yield made
    made.delete()


def failing(name: str, queue: Queue, wait: float = 0.3) -> tuple[Service, list[int]]:
    """A service whose handler fails at first, and the attempts that it has made."""
    service, attempts = (
        Service(name, retry=Retry(stop=stop_after_attempt(3), wait=wait_fixed(wait))),
        [],
    )

    @service.handler(queue, bind=[Exchange(f"{name}.x").key("k")])
    async def handle(body: bytes, delivery: Delivery) -> None:
        attempts.append(delivery.attempt)
        raise ValueError

    return service, attempts


async def test_a_user_without_a_permission_gets_an_error_that_names_it(user: User) -> None:
    """A service that could never consume ends at its start, instead of trying for ever."""
    service, _ = failing(user.name, Queue(f"{user.name}.q"))
    user.may(f"^{user.name}", ".*", ".*")
    with pytest.raises(TopologyError, match=f"configure, write and read.*{PREFIX}"):
        async with Runtime(service, BrokerUrl.parse(user.url), connect_deadline=10):
            pass
    async with connected(user.admin):
        async with Runtime(service, BrokerUrl.parse(user.admin)):
            pass
        user.may(f"^{user.name}", ".*", f"^{user.name}")
        with pytest.raises(TopologyError, match=rf"read from {PREFIX}.deliver"):
            async with Runtime(service, BrokerUrl.parse(user.url), connect_deadline=10):
                pass


@pytest.mark.parametrize("configure", ["^{name}", "^$"], ids=["own prefix", "nothing"])
async def test_what_is_there_needs_no_permission_to_configure(user: User, configure: str) -> None:
    """With what another user declared, a service consumes, retries and dead-letters."""
    queue = Queue(f"{user.name}.q")
    service, attempts = failing(user.name, queue)
    ours = rf"^({user.name}|mqkit\.delay\.v1\.)"
    user.may(configure.format(name=user.name), rf"{ours}|^amq\.default$", ours)
    async with connected(user.admin) as client:
        async with Runtime(service, BrokerUrl.parse(user.admin)):
            await client.publisher.publish("", queue.name, b"1")
            await client.take(queue.dead_queue)
        attempts.clear()
        async with Runtime(service, BrokerUrl.parse(user.url), connect_deadline=10):
            await client.publisher.publish(f"{user.name}.x", "k", b"2")
            dead = await client.take(queue.dead_queue)
    assert attempts == [1, 2, 3]
    assert dead.properties.headers["mqkit-reason"] == "attempts-exhausted"


async def test_a_delay_whose_level_is_missing_names_the_permission(
    user: User, caplog: pytest.LogCaptureFixture
) -> None:
    """Its message stays unacked meanwhile, and is retried once the level is there."""
    queue = Queue(f"{user.name}.q")
    service, attempts = failing(user.name, queue)
    user.may(f"^{user.name}", ".*", ".*")
    async with connected(user.admin) as client:
        async with Runtime(service, BrokerUrl.parse(user.admin)):
            pass
        async with Runtime(service, BrokerUrl.parse(user.url), connect_deadline=10):
            await client.publisher.publish("", queue.name, b"1")
            await eventually(
                lambda: f"permission to configure what begins with {PREFIX}" in caplog.text
            )
            user.may(".*", ".*", ".*")
            await client.take(queue.dead_queue)
    assert attempts == [1, 2, 3]


async def test_what_is_there_of_the_ladder_needs_no_permission_to_publish_later(
    user: User,
) -> None:
    """Who may not declare the ladder uses what is there of it, and is told what is not."""
    queue = f"{user.name}.q"
    ladder = r"mqkit\.delay\.v1\."
    user.may("^$", rf"^({ladder}|amq\.default$)", rf"^({user.name}|{ladder})")
    async with connected(user.admin) as admin, connected(user.url) as client:
        await admin.declare(queue)
        # For so long nothing else is held on this broker, whatever other tests have declared.
        with pytest.raises(PublishRefusedError, match=rf"configure.*{PREFIX}"):
            await client.publisher.publish("", queue, b"1", delay=300 * 86_400)
        await admin.publisher.publish("", queue, b"2", delay=0.3)
        await client.publisher.publish("", queue, b"3", delay=0.3)
        assert [(await client.take(queue)).body for _ in range(2)] == [b"2", b"3"]
