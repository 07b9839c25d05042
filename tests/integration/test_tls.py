"""TLS: what a refusal says, and that a certificate may be replaced while a service runs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tenacity import stop_after_attempt, wait_fixed

from mqkit import (
    BlockingPublisher,
    BrokerUrl,
    ConnectError,
    Delivery,
    Queue,
    Reject,
    Retry,
    Runtime,
    Service,
    drivers,
)
from mqkit.drivers.base import Driver
from mqkit.testing.brokers.broker import Broker
from tests.support import connected, eventually
from tests.tls_front import CERTIFICATES, TlsFront
from tests.users import User

CLIENTS = ("pika", "aio-pika")


async def connect(client: str, text: str) -> None:
    """Open a connection, and close it."""
    url = BrokerUrl.parse(text)
    driver = drivers.named(client)
    connection = await driver.connect(url, url.hosts[0], name="test", on_blocked=lambda _: None)
    await connection.close()


@pytest.fixture(params=["TLSv1_2", "TLSv1_3"])
def front(broker: Broker, request: pytest.FixtureRequest) -> Iterator[TlsFront]:
    """TLS in front of the broker."""
    with TlsFront(broker.url, ssl.TLSVersion[request.param]) as each:
        yield each


@pytest.mark.parametrize("client", CLIENTS)
async def test_a_certificate_of_the_brokers_trust_is_let_in(front: TlsFront, client: str) -> None:
    """By both TLS versions."""
    await connect(client, front.url(certificate="client"))


@pytest.mark.parametrize("client", CLIENTS)
async def test_a_client_certificate_that_is_refused_is_told(front: TlsFront, client: str) -> None:
    """Nothing is said of AMQP: it is the certificate, or that there is none."""
    with pytest.raises(ConnectError, match=r"TLS client certificate.*certfile") as caught:
        await connect(client, front.url(connect_timeout=5))
    assert "does not speak" not in str(caught.value)
    with pytest.raises(ConnectError, match=r"refused the TLS client certificate") as caught:
        await connect(client, front.url(certificate="stranger", connect_timeout=5))
    assert "does not speak" not in str(caught.value)


@pytest.mark.parametrize("client", CLIENTS)
async def test_a_port_of_the_other_kind_is_told(
    front: TlsFront, broker: Broker, client: str
) -> None:
    """TLS where there is none, and none where there is: the error names the other scheme."""
    with pytest.raises(ConnectError, match="amqps://"):
        await connect(client, front.url(tls=False, connect_timeout=5))
    plain = BrokerUrl.parse(broker.url).hosts[0]
    with pytest.raises(ConnectError, match=r"does not speak TLS.*amqp://"):
        await connect(client, f"amqps://guest:guest@{plain}/?connect_timeout=5")


@pytest.mark.parametrize("client", CLIENTS)
async def test_a_certificate_that_this_side_does_not_trust_is_told(
    front: TlsFront, client: str
) -> None:
    """With OpenSSL's reason: who signed it, or for whom it is."""
    other_ca = CERTIFICATES / "stranger.pem"
    with pytest.raises(ConnectError, match=r"certificate verify failed: .*certificate"):
        await connect(client, front.url(certificate="client", cafile=other_ca, connect_timeout=5))
    with pytest.raises(ConnectError, match=r"not valid for 'elsewhere'"):
        await connect(
            client, front.url(certificate="client", server_name="elsewhere", connect_timeout=5)
        )


class Pair:
    """A client certificate and its key in files, as whoever renews them replaces them."""

    def __init__(self, folder: Path) -> None:
        self.certfile, self.keyfile = folder / "client.pem", folder / "client.key"

    def replace(self, name: str, *, key: bool = True) -> None:
        """Put another one there; the key is mostly a moment late."""
        shutil.copy(CERTIFICATES / f"{name}.pem", self.certfile)
        if key:
            shutil.copy(CERTIFICATES / f"{name}.key", self.keyfile)

    def url(self, front: TlsFront) -> BrokerUrl:
        """A URL with these files."""
        return BrokerUrl.parse(front.url(certfile=self.certfile, keyfile=self.keyfile))


@pytest.mark.in_turn
@pytest.mark.parametrize("missing", [False, True])
async def test_a_service_outlives_a_certificate_without_its_key(
    broker: Broker,
    name: str,
    driver: Driver,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    missing: bool,
) -> None:
    """Both connections are tried again until the key is there, and messages are settled then."""
    pair = Pair(tmp_path)
    pair.replace("client")
    handled: list[str] = []
    service = Service(name, retry=Retry(stop=stop_after_attempt(2), wait=wait_fixed(0)))

    @service.handler(Queue(f"{name}.q"))
    async def handle(body: str, delivery: Delivery) -> None:
        handled.append(body)
        if delivery.attempt == 1:
            raise LookupError  # its retry goes by the connection that publishes
        raise Reject("as it should be")

    # The one that notices it second has no line above that.
    caplog.set_level(logging.DEBUG, "mqkit.outages")

    def waiting(connection: str) -> bool:
        return tells(caplog.text, f"{name}.{connection}", "the TLS files")

    async with connected(broker.url) as client:
        with TlsFront(broker.url) as front:
            async with Runtime(service, pair.url(front)) as runtime:
                await client.publisher.publish("", f"{name}.q", "one")
                assert (await client.take(f"{name}.q.dead")).body == b'"one"'
                if missing:
                    pair.keyfile.unlink()
                else:
                    pair.replace("renewed", key=False)
                front.cut()
                await eventually(lambda: waiting("consume") and waiting("publish"))
                assert "trying again" in caplog.text
                pair.replace("renewed")
                await client.publisher.publish("", f"{name}.q", "two")
                # The first one comes again where its ack was lost with the connection.
                while (await client.take(f"{name}.q.dead")).body != b'"two"':
                    assert "two" not in handled[:-2]
                assert (handled[:2], handled[-2:]) == (["one"] * 2, ["two"] * 2)
                assert runtime.in_flight == 0
    assert "given up" not in caplog.text


def test_a_blocking_publisher_outlives_a_certificate_without_its_key(
    broker: Broker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its publish waits for the key, and is confirmed."""
    pair = Pair(tmp_path)
    pair.replace("client")
    with TlsFront(broker.url) as front, BlockingPublisher(pair.url(front), timeout=30) as publisher:
        publisher.publish("", "nowhere", {}, mandatory=False)
        pair.replace("renewed", key=False)
        front.cut()
        publishing = threading.Thread(
            target=lambda: publisher.publish("", "nowhere", {}, mandatory=False)
        )
        publishing.start()
        deadline = 200
        while "the TLS files" not in caplog.text and deadline:
            publishing.join(0.05)
            deadline -= 1
        assert "trying again" in caplog.text
        assert publishing.is_alive()
        pair.replace("renewed")
        publishing.join(20)
        assert not publishing.is_alive()


async def test_a_service_outlives_a_password_that_is_changed_and_changed_back(
    rabbitmq: Broker, name: str, driver: Driver, caplog: pytest.LogCaptureFixture
) -> None:
    """While it is refused it tries again, and goes on with both connections after that."""
    service = Service(name)
    caplog.set_level(logging.DEBUG, "mqkit.outages")

    @service.handler(Queue(f"{name}.q"), retry=Retry.never())
    async def handle(body: str) -> None:
        raise Reject("as it should be")

    user = User(rabbitmq, name)
    host = BrokerUrl.parse(rabbitmq.url).hosts[0]
    await asyncio.to_thread(user.add, "first")
    try:
        await asyncio.to_thread(user.permit, ".*", ".*", ".*")
        url = BrokerUrl.parse(f"amqp://{name}:first@{host}/")
        async with connected(rabbitmq.url) as client, Runtime(service, url):
            await asyncio.to_thread(user.change_password, "second")
            await asyncio.to_thread(user.close_connections)
            await eventually(lambda: refused(caplog.text, name) == {"consume", "publish"})
            await asyncio.to_thread(user.change_password, "first")
            await client.publisher.publish("", f"{name}.q", "one")
            assert (await client.take(f"{name}.q.dead")).body == b'"one"'
    finally:
        with contextlib.suppress(Exception):
            await asyncio.to_thread(user.delete)


def refused(log: str, name: str) -> set[str]:
    """The connections whose attempts were refused."""
    return {
        connection
        for connection in ("consume", "publish")
        if tells(log, f"{name}.{connection}", "refused the user name")
    }


def tells(log: str, connection: str, words: str) -> bool:
    """Whether a line of the connection's outage has these words."""
    lines = (
        line.partition(f"{connection}: connection lost since ")[2] for line in log.splitlines()
    )
    return any(words in line for line in lines)
