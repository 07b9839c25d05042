"""The examples for Django and Flask, in workers forked from one parent, against a broker."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from mqkit.testing.proxy.proxy import TcpProxy
from tests.integration.examples.shop import EXAMPLES, order, shop, take_orders
from tests.support import ROOT

pytestmark = pytest.mark.in_turn


@dataclass(frozen=True)
class Example:
    """An example, and how it is served."""

    name: str
    application: str
    in_parent: str
    """Publishes in the parent, before the forks."""


FLASK = Example(
    "flask",
    "flask_app:create_app()",
    "application.extensions['publisher'].publish(orders, 'order.accepted', {}, message_id='first')",
)
DJANGO = Example(
    "django",
    "django_shop.wsgi:application",
    "from django_shop.messages import orders, publisher\n"
    "publisher().publish(orders, 'order.accepted', {}, message_id='first')",
)

BOTH = pytest.mark.parametrize("example", [FLASK, DJANGO], ids=lambda example: example.name)


def environment(url: str, folder: Path) -> dict[str, str]:
    return {
        **os.environ,
        "BROKER_URL": url,
        "DATABASE": str(folder / "shop.sqlite3"),
        "DJANGO_SETTINGS_MODULE": "django_shop.settings",
        "PYTHONPATH": f"{EXAMPLES}{os.pathsep}{ROOT}",
        "PYTHONWARNINGS": "ignore::DeprecationWarning",
    }


def python(url: str, folder: Path, *arguments: str) -> str:
    """Run Python as the application's, and return what it printed."""
    return subprocess.run(
        [sys.executable, *arguments],
        env=environment(url, folder),
        check=True,
        timeout=60,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout


@contextlib.asynccontextmanager
async def served(
    example: Example, url: str, folder: Path, in_parent: str = ""
) -> AsyncIterator[httpx.AsyncClient]:
    """Serve an example by forked workers; yields a client. All of them must end in order."""
    if example is DJANGO:
        migrate = ("-m", "django", "migrate", "--run-syncdb", "--verbosity=0")
        await asyncio.to_thread(python, url, folder, *migrate)
    server = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.integration.examples.prefork",
        example.application,
        in_parent,
        env=environment(url, folder),
        cwd=folder,
        stdout=subprocess.PIPE,
    )
    assert server.stdout is not None
    try:
        port = int(await asyncio.wait_for(server.stdout.readline(), 30))
        address = f"http://127.0.0.1:{port}"
        limits = httpx.Limits(max_keepalive_connections=0)
        async with httpx.AsyncClient(base_url=address, timeout=30, limits=limits) as client:
            yield client
        server.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(server.wait(), 10) == 0
    finally:
        if server.returncode is None:
            server.kill()
            await server.wait()


@BOTH
async def test_each_forked_worker_has_a_connection_of_its_own(
    example: Example, mqkit_vhost: str, tmp_path: Path
) -> None:
    """Also where the parent has published: all orders arrive once, and all prices come back."""
    with TcpProxy(mqkit_vhost) as proxy:
        async with (
            shop(mqkit_vhost) as other_side,
            served(example, proxy.url, tmp_path, example.in_parent) as client,
        ):
            workers, count = set[str](), 0
            while len(workers) < 2:
                assert count < 500
                answers = await asyncio.gather(
                    *(client.post("/orders", json=order(count + n)) for n in range(20)),
                    *(client.get(f"/prices/sku-{n}") for n in range(5)),
                )
                assert [each.status_code for each in answers] == [202] * 20 + [200] * 5
                assert answers[-1].json() == {"sku": "sku-4", "price": "9.90"}
                workers |= {each.headers["X-Worker"] for each in answers}
                count += 20
            assert proxy.connections == 1 + len(workers)
            expected = ["first", *(f"o-{n}" for n in range(count))]
            assert await take_orders(other_side, len(expected)) == sorted(expected)


@BOTH
async def test_a_broker_that_is_away_is_a_503_in_time(
    example: Example, mqkit_vhost: str, tmp_path: Path
) -> None:
    """Each call has its answer within its timeout, and works again once the broker is back."""
    with TcpProxy(mqkit_vhost) as proxy:
        async with shop(mqkit_vhost) as other_side, served(example, proxy.url, tmp_path) as client:
            assert (await client.post("/orders", json=order(1))).status_code == 202
            proxy.refuse_connections()
            proxy.cut()
            began = time.monotonic()
            answers = await asyncio.gather(
                client.post("/orders", json=order(2)), client.get("/prices/tea")
            )
            assert time.monotonic() - began < 5 + 2
            assert [each.status_code for each in answers] == [503, 503]
            assert answers[0].json() == {"detail": "ConnectionLostError"}
            proxy.accept_connections()
            assert (await client.post("/orders", json=order(2))).status_code == 202
            assert await take_orders(other_side, 2) == ["o-1", "o-2"]


async def test_django_publishes_what_it_stored_and_could_not_publish(
    mqkit_vhost: str, tmp_path: Path
) -> None:
    """An order whose message failed after the commit is published later, under the same id."""
    pending = (
        "import django; django.setup();"
        "from django_shop.messages import publish_pending; print(list(publish_pending()))"
    )
    async with shop(mqkit_vhost) as other_side:
        with TcpProxy(mqkit_vhost) as proxy:
            async with served(DJANGO, proxy.url, tmp_path) as client:
                proxy.refuse_connections()
                assert (await client.post("/orders", json=order(1))).status_code == 503
        for _ in range(2):  # the second time there is nothing left to publish
            assert await asyncio.to_thread(python, mqkit_vhost, tmp_path, "-c", pending) == "[]\n"
        assert await take_orders(other_side, 1) == ["o-1"]
