"""The HTTP door: takes payment orders, tells what became of them, and asks for balances.

    MQKIT_URL=amqp://... ORDERS_DATABASE=... uvicorn handlers.web:app

An order is written down and published in one transaction of the orders service's store, so that it
is taken also while the broker is away, and never without its message. Its id derives from the
`Idempotency-Key`: the same request again, after whatever error, is the same order.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import Depends, FastAPI, Header, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import Field

from handlers.databases import configured, create_tables
from handlers.events import Amount, Id
from handlers.messages import (
    LEDGER,
    LONG,
    ORDERS,
    WITHOUT_NUL,
    AccountBalance,
    BalanceOf,
    Currency,
    Frozen,
    OrderId,
    Partner,
    PlaceOrder,
)
from handlers.orders import PaymentState, Step
from handlers.records import web as records
from mqkit import (
    BrokerError,
    BrokerUrl,
    ConfigurationError,
    Publisher,
    PublishTimeoutError,
    ReplyLostError,
    RequestRejectedError,
    RequestTimeoutError,
)
from mqkit.errors import StatementError, StoreUnavailableError
from mqkit.settings import Settings
from mqkit.store import Store

BALANCE_TIMEOUT = 2.0
"""Seconds that the ledger has to answer."""

RETRY_AFTER = {"Retry-After": "5"}


class NewOrder(Frozen):
    """The body of `POST /orders`: a payment order, without the id that its key gives it."""

    account_id: Id
    partner: Partner
    amount: Amount
    currency: Currency
    purpose: Annotated[str, Field(max_length=LONG, pattern=WITHOUT_NUL)] = ""


class OrderState(Frozen):
    """An order, and how far it is."""

    order: PlaceOrder
    state: Step | Literal["placed"]
    """`placed` until the orders service has seen it."""
    reason: str = ""
    """Why it was refused."""


@dataclass(frozen=True, slots=True)
class Door:
    """What a call needs: the orders service's store, and a publisher."""

    store: Store
    publisher: Publisher

    async def state(self, order_id: str) -> OrderState | None:
        """Return how far an order is, whoever placed it; None if there is none."""
        for story in await self.store.saga(order_id, name="payment"):
            known = PaymentState.model_validate_json(story.saga.state)
            return OrderState(order=known.order, state=known.step, reason=known.reason)
        async with self.store.transaction() as transaction:
            order = await records.find(transaction.connection, order_id)
        return None if order is None else OrderState(order=order, state="placed")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open the store, with the relay of its outbox; the publisher connects when it is needed."""
    if (url := Settings().url) is None:
        raise ConfigurationError("which broker? Set MQKIT_URL")
    publisher = Publisher(BrokerUrl.parse(url.get_secret_value()), app_id="web")
    async with Store(configured("orders")) as store:
        async with store.transaction() as transaction:
            await create_tables(transaction.connection, records.metadata, name="web")
        app.state.door = Door(store, publisher)
        store.start(publisher.send)
        try:
            yield
        finally:
            await store.stop()
            await publisher.close()


app = FastAPI(title="Payments", lifespan=lifespan)


async def the_door(request: Request) -> Door:
    """Return what the lifespan has opened."""
    door: Door = request.app.state.door
    return door


OpenDoor = Annotated[Door, Depends(the_door)]
Key = Annotated[str, Header(alias="Idempotency-Key", min_length=1, max_length=255)]


def order_id_of(key: str) -> str:
    """Return the id of the order that has this idempotency key."""
    return f"web-{hashlib.sha256(key.encode()).hexdigest()[:40]}"


@app.post("/orders", status_code=202)
async def place(new: NewOrder, key: Key, door: OpenDoor) -> OrderState:
    """Take an order, once for its key, and answer how far it is."""
    order = PlaceOrder(order_id=order_id_of(key), **dict(new))
    async with door.store.transaction(app_id="web") as transaction:
        taken = await records.take(transaction.connection, order)
        if taken is None:
            message_id = f"order-{order.order_id}"
            await transaction.publish(ORDERS, "order.place", order, message_id=message_id)
    if taken not in (None, order):
        raise HTTPException(409, "this Idempotency-Key was used for another order")
    return await door.state(order.order_id) or OrderState(order=order, state="placed")


@app.get("/orders/{order_id}")
async def state(order_id: OrderId, door: OpenDoor) -> OrderState:
    """Tell how far an order is, or how it ended."""
    found = await door.state(order_id)
    if found is None:
        raise HTTPException(404, "there is no such order")
    return found


@app.get("/accounts/{account_id}/balance")
async def balance(account_id: Id, currency: Currency, door: OpenDoor) -> AccountBalance:
    """Ask the ledger what an account has."""
    question = BalanceOf(account_id=account_id, currency=currency)
    route = LEDGER.key("ledger.balance")
    return await door.publisher.request(route, question, AccountBalance, timeout=BALANCE_TIMEOUT)


@app.exception_handler(RequestValidationError)
async def bad_input(_: Request, error: RequestValidationError) -> JSONResponse:
    """Say which field is wrong, and why, without what was sent: NaN is no JSON, say."""
    wrong = [{"loc": each["loc"], "msg": each["msg"]} for each in error.errors()]
    return JSONResponse({"detail": wrong}, 422)


@app.exception_handler(BrokerError)
async def no_answer(_: Request, error: BrokerError) -> JSONResponse:
    """Answer 504 where the ledger may have the question, 503 where nobody takes one now."""
    if isinstance(error, RequestRejectedError):
        return JSONResponse({"detail": error.reason}, 422)
    late = isinstance(error, PublishTimeoutError | RequestTimeoutError | ReplyLostError)
    return JSONResponse({"detail": type(error).__name__}, 504 if late else 503, RETRY_AFTER)


@app.exception_handler(StoreUnavailableError)
@app.exception_handler(StatementError)
async def no_database(_: Request, error: Exception) -> JSONResponse:
    """Answer 503: nobody knows whether the order was taken, and the same key again is safe."""
    return JSONResponse({"detail": type(error).__name__}, 503, RETRY_AFTER)
