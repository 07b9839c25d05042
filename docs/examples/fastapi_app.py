"""A FastAPI application that publishes orders and asks another service for prices."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Annotated

from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from mqkit import (
    BrokerError,
    Exchange,
    Publisher,
    PublishTimeoutError,
    Queue,
    ReplyLostError,
    RequestRejectedError,
    RequestTimeoutError,
)

# Nobody may be listening for orders yet: that is no error.
orders = Exchange("shop.orders", mandatory=False)
prices = Queue("shop.prices")


class Order(BaseModel):
    id: str
    sku: str
    amount: int


class Price(BaseModel):
    sku: str
    price: Decimal


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with Publisher(os.environ["BROKER_URL"], app_id="shop", timeout=5) as publisher:
        app.state.publisher = publisher
        yield


app = FastAPI(lifespan=lifespan)


async def get_publisher(request: Request) -> Publisher:
    publisher: Publisher = request.app.state.publisher
    return publisher


SharedPublisher = Annotated[Publisher, Depends(get_publisher)]


@app.post("/orders", status_code=202)
async def accept(order: Order, publisher: SharedPublisher) -> dict[str, str]:
    # The order's own id: who gets a 503 or 504 sends the order again, and it is the same message.
    message_id = await publisher.publish(orders, "order.accepted", order, message_id=order.id)
    return {"message_id": message_id}


@app.get("/prices/{sku}")
async def price(sku: str, publisher: SharedPublisher) -> Price:
    return await publisher.request(prices, {"sku": sku}, Price, timeout=2)


@app.exception_handler(BrokerError)
async def not_now(_: Request, error: BrokerError) -> JSONResponse:
    match error:
        case RequestRejectedError():
            return JSONResponse({"detail": error.reason}, 422)
        case PublishTimeoutError() | RequestTimeoutError() | ReplyLostError():
            status = 504  # it may be done: the same order again is safe
        case _:
            status = 503  # try again later
    return JSONResponse({"detail": type(error).__name__}, status, {"Retry-After": "5"})
