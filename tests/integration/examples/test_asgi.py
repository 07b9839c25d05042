"""The examples for FastAPI and Starlette, each behind a server, against a broker."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import socket
import sys
import time
from collections.abc import AsyncIterator
from types import ModuleType

import httpx
import pytest
import uvicorn

from mqkit.testing.proxy.proxy import TcpProxy
from tests.integration.examples.shop import EXAMPLES, UNKNOWN, order, shop, take_orders
from tests.support import eventually

pytestmark = pytest.mark.in_turn

BOTH = pytest.mark.parametrize("example", ["fastapi_app", "starlette_app"])


def load(name: str) -> ModuleType:
    """Import an example anew: it has read nothing of another test's environment."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        # pydantic looks the module up, to resolve annotations.
        patch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
    return module


@contextlib.asynccontextmanager
async def served(example: str, url: str) -> AsyncIterator[httpx.AsyncClient]:
    """Serve an example on a port; yields a client of it. Its shutdown must be in order."""
    with pytest.MonkeyPatch.context() as patch, socket.create_server(("127.0.0.1", 0)) as listener:
        patch.setenv("BROKER_URL", url)
        config = uvicorn.Config(load(example).app, lifespan="on", ws="none", log_config=None)
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        await eventually(lambda: server.started or serving.done())
        try:
            address = f"http://127.0.0.1:{listener.getsockname()[1]}"
            async with httpx.AsyncClient(base_url=address, timeout=30) as client:
                yield client
        finally:
            server.should_exit = True
            began = time.monotonic()
            await serving
        assert time.monotonic() - began < 5
        assert not server.lifespan.should_exit


@BOTH
async def test_an_order_arrives_and_a_price_comes_back(example: str, mqkit_vhost: str) -> None:
    """An HTTP call ends with its message in a queue, or with what a service replied."""
    async with shop(mqkit_vhost) as other_side, served(example, mqkit_vhost) as client:
        answers = await asyncio.gather(
            *(client.post("/orders", json=order(number)) for number in range(20)),
            *(client.get(f"/prices/sku-{number}") for number in range(20)),
        )
        assert [each.status_code for each in answers] == [202] * 20 + [200] * 20
        assert answers[3].json() == {"message_id": "o-3"}
        assert answers[25].json() == {"sku": "sku-5", "price": "9.90"}
        assert await take_orders(other_side, 20) == sorted(f"o-{n}" for n in range(20))


@BOTH
async def test_a_broker_that_is_away_is_a_503_in_time(example: str, mqkit_vhost: str) -> None:
    """Each call has its answer within its timeout, and works again once the broker is back."""
    with TcpProxy(mqkit_vhost) as proxy:
        async with shop(mqkit_vhost) as other_side, served(example, proxy.url) as client:
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
            assert answers[0].headers["Retry-After"] == "5"
            proxy.accept_connections()
            assert (await client.post("/orders", json=order(2))).status_code == 202
            assert (await client.get("/prices/tea")).status_code == 200
            assert await take_orders(other_side, 2) == ["o-1", "o-2"]


@BOTH
async def test_a_price_that_nobody_tells_is_a_504(example: str, mqkit_vhost: str) -> None:
    """Where the service that answers is stopped, the request waits for its timeout."""
    async with shop(mqkit_vhost):
        pass
    async with served(example, mqkit_vhost) as client:
        began = time.monotonic()
        answer = await client.get("/prices/tea")
        assert time.monotonic() - began < 2 + 2
        assert (answer.status_code, answer.json()) == (504, {"detail": "RequestTimeoutError"})


async def test_starlette_starts_while_the_broker_is_away() -> None:
    """Nothing is opened before the first publish, which is answered with 503 in its time."""
    async with served("starlette_app", "amqp://guest:guest@127.0.0.1:1/") as client:
        began = time.monotonic()
        assert (await client.post("/orders", json=order(1))).status_code == 503
        assert time.monotonic() - began < 5 + 2


async def test_what_a_service_rejects_is_a_422(mqkit_vhost: str) -> None:
    """FastAPI's handler of errors answers with the reason."""
    async with shop(mqkit_vhost), served("fastapi_app", mqkit_vhost) as client:
        answer = await client.get(f"/prices/{UNKNOWN}")
        assert (answer.status_code, answer.json()) == (422, {"detail": "we do not sell that"})
