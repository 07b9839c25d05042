"""The HTTP door behind a server, beside the orders service and the ledger."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx
import pytest
import uvicorn

from handlers import ledger, orders, web
from handlers.messages import LEDGER, ORDERS, RISK, CheckRisk, PlaceOrder, RiskAnswered
from mqkit import BrokerUrl, Publisher, Queue, Retry, Runtime, Service
from mqkit.testing.harness import Harness
from mqkit.testing.proxy.proxy import TcpProxy
from tests.support import Client, connected, eventually

pytestmark = pytest.mark.in_turn(embedded=True)

ORDER: dict[str, Any] = {
    "account_id": 576,
    "partner": {"bank": "QR", "account": "13943797"},
    "amount": "12.50",
    "currency": "CZK",
}


@pytest.fixture(autouse=True)
def _databases(database: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """The orders' database, of each kind in turn, and a ledger's."""
    monkeypatch.setenv("ORDERS_DATABASE", database)
    monkeypatch.setenv("LEDGER_DATABASE", f"sqlite:///{tmp_path / 'ledger.sqlite'}")


@contextlib.asynccontextmanager
async def served(url: str) -> AsyncIterator[httpx.AsyncClient]:
    """Serve the door on a port; yields a client of it. Its shutdown must be in order."""
    with pytest.MonkeyPatch.context() as patch, socket.create_server(("127.0.0.1", 0)) as listener:
        patch.setenv("MQKIT_URL", url)
        config = uvicorn.Config(web.app, lifespan="on", ws="none", log_config=None)
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        await eventually(lambda: server.started or serving.done())
        try:
            address = f"http://127.0.0.1:{listener.getsockname()[1]}"
            async with httpx.AsyncClient(base_url=address, timeout=30) as client:
                yield client
        finally:
            server.should_exit = True
            await serving
        assert not server.lifespan.should_exit


async def sent(client: httpx.AsyncClient, key: str, **changes: Any) -> httpx.Response:
    """Send an order under a key."""
    return await client.post("/orders", json=ORDER | changes, headers={"Idempotency-Key": key})


async def taken_orders(client: Client) -> AsyncIterator[PlaceOrder]:
    """The orders that were published until now."""
    for incoming in await client.take_all("orders.place"):
        yield PlaceOrder.model_validate_json(incoming.body)


async def listening(client: Client) -> None:
    """Declare the queue of orders, without a service that takes any."""
    async with client.channel() as channel:
        await channel.declare_queue("orders.place")
        await channel.declare_exchange(ORDERS.name, ORDERS.type)
        await channel.bind_queue("orders.place", ORDERS.name, "order.place")


def trusting() -> Service:
    """Make a risk service to which every order is right."""
    service = Service("risk", retry=Retry.never())

    @service.handler(Queue("risk.check"), bind=[RISK.key("risk.check")])
    async def check(question: CheckRisk, publisher: Publisher) -> None:
        answer = RiskAnswered(order_id=question.order_id, passed=True)
        await publisher.publish(RISK, "risk.answered", answer)

    return service


async def test_an_order_is_taken_executed_and_seen_in_the_balance(
    mqkit_vhost: str, mqkit_harness: Callable[..., AbstractAsyncContextManager[Harness]]
) -> None:
    """From the HTTP call through all services to the ledger, and back by a request."""
    async with (
        mqkit_harness(ledger.service, url=mqkit_vhost) as books,
        mqkit_harness(orders.service, url=mqkit_vhost),
        Runtime(trusting(), BrokerUrl.parse(mqkit_vhost)),
        served(mqkit_vhost) as client,
    ):
        deposit = {"kind": "deposit", "deposit_id": "d-1", "account_id": 576, "currency": "CZK"}
        await books.publish(LEDGER, "ledger.command.deposit", deposit | {"amount": "100.00"})
        answer = await sent(client, "key-1")
        assert answer.status_code == 202
        order_id = answer.json()["order"]["order_id"]

        async def is_executed() -> bool:
            state = await client.get(f"/orders/{order_id}")
            assert state.status_code == 200
            return bool(state.json()["state"] == "executed")

        await eventually(is_executed, 30)
        found = await client.get("/accounts/576/balance", params={"currency": "CZK"})
        assert (found.status_code, found.json()["balance"]) == (200, "87.50")
        again = await sent(client, "key-1")
        assert (again.status_code, again.json()["state"]) == (202, "executed")
        too_much = await sent(client, "key-2", amount="1000.00")
        refused = f"/orders/{too_much.json()['order']['order_id']}"
        await eventually(lambda: is_refused(client, refused), 30)


async def is_refused(client: httpx.AsyncClient, path: str) -> bool:
    """Whether an order is refused; it then says why."""
    state = (await client.get(path)).json()
    return bool(state["state"] == "refused" and state["reason"])


async def test_a_key_has_one_order_however_often_and_at_once_it_is_sent(mqkit_vhost: str) -> None:
    """Twenty calls at a time are one order; another content under the key is a 409."""
    async with connected(mqkit_vhost) as other_side, served(mqkit_vhost) as client:
        await listening(other_side)
        answers = await asyncio.gather(*(sent(client, "key-1") for _ in range(20)))
        assert {each.status_code for each in answers} == {202}
        assert len({each.json()["order"]["order_id"] for each in answers}) == 1
        assert (await sent(client, "key-1", amount="12.51")).status_code == 409
        assert (await sent(client, "key-1", amount="12.5")).status_code == 202
        assert (await sent(client, "key-2")).status_code == 202
        found: list[PlaceOrder] = []

        async def both_came() -> bool:
            found.extend([each async for each in taken_orders(other_side)])
            return len(found) >= 2

        await eventually(both_came)
        assert len({each.order_id for each in found}) == len(found) == 2
        assert {str(each.amount) for each in found} == {"12.50"}


AS_JSON = {"Idempotency-Key": "key-1", "Content-Type": "application/json"}

BAD: dict[str, bytes] = {
    "an unknown currency": b'{"currency": "XYZ"}',
    "a negative amount": b'{"amount": "-1.00"}',
    "an amount of nothing": b'{"amount": 0}',
    "an amount that is true": b'{"amount": true}',
    "an account with a fraction": b'{"account_id": 1.5}',
    "an amount of 20 digits": b'{"amount": "12345678901234567890"}',
    "three digits behind the point": b'{"amount": "1.001"}',
    "no number": b'{"amount": NaN}',
    "an infinite number": b'{"amount": 1e999}',
    "a text for an account": b'{"account_id": "x"}',
    "an account that no column holds": b'{"account_id": 9223372036854775808}',
    "no bank": b'{"partner": {"bank": "", "account": "1"}}',
    "a NUL": b'{"purpose": "a\\u0000"}',
    "half of a character": b'{"purpose": "a\\ud800"}',
    "an id of its own": b'{"order_id": "o-1"}',
}


async def test_bad_input_is_a_422_that_says_why_and_changes_nothing(mqkit_vhost: str) -> None:
    """Each names its field; nothing is published, and the key is still free."""
    async with connected(mqkit_vhost) as other_side, served(mqkit_vhost) as client:
        await listening(other_side)
        for what, change in BAD.items():
            (name, *_) = change.decode().split('"')[1:]
            # Of a name that stands twice in JSON, the second one counts.
            body = json.dumps(ORDER)[:-1].encode() + b"," + change[1:]
            answer = await client.post("/orders", content=body, headers=AS_JSON)
            assert (what, answer.status_code) == (what, 422), answer.text
            told = answer.json()["detail"]
            assert any(name in each["loc"] and each["msg"] for each in told), (what, told)
        for headers in ({}, {"Idempotency-Key": ""}, {"Idempotency-Key": "k" * 256}):
            answer = await client.post("/orders", json=ORDER, headers=headers)
            assert answer.status_code == 422
            assert "Idempotency-Key" in answer.text
        for body in (b"", b"[]", b"null", b"{", b'"\xff"', b"[" * 100_000):
            answer = await client.post("/orders", content=body, headers=AS_JSON)
            assert answer.status_code in (400, 422), body[:10]
        assert (await client.get("/orders/no%20id")).status_code == 422
        assert (await client.get("/orders/web-0")).status_code == 404
        wrong = await client.get("/accounts/576/balance", params={"currency": "XYZ"})
        assert wrong.status_code == 422
        assert await other_side.messages("orders.place") == 0
        assert (await sent(client, "key-1")).status_code == 202
        await eventually(lambda: one_waits(other_side))


async def one_waits(client: Client) -> bool:
    """Whether one order is in the queue."""
    return await client.messages("orders.place") == 1


async def test_an_order_is_taken_while_the_broker_is_away(mqkit_vhost: str) -> None:
    """It waits in the outbox, and is published once the broker is back; a balance is a 503."""
    with TcpProxy(mqkit_vhost) as proxy:
        async with connected(mqkit_vhost) as other_side, served(proxy.url) as client:
            await listening(other_side)
            proxy.refuse_connections()
            proxy.cut()
            answer = await sent(client, "key-1")
            assert (answer.status_code, answer.json()["state"]) == (202, "placed")
            asked = await client.get("/accounts/576/balance", params={"currency": "CZK"})
            assert asked.status_code == 503
            assert asked.headers["Retry-After"]
            proxy.accept_connections()
            await eventually(lambda: one_waits(other_side), 40)


async def test_a_ledger_that_does_not_answer_is_a_504_in_time(mqkit_vhost: str) -> None:
    """Its queue has the question, and nobody takes it."""
    async with connected(mqkit_vhost) as other_side, served(mqkit_vhost) as client:
        async with other_side.channel() as channel:
            await channel.declare_queue("ledger.balance")
            await channel.declare_exchange(LEDGER.name, LEDGER.type)
            await channel.bind_queue("ledger.balance", LEDGER.name, "ledger.balance")
        answer = await client.get("/accounts/576/balance", params={"currency": "CZK"})
        assert (answer.status_code, answer.json()) == (504, {"detail": "RequestTimeoutError"})
