"""A Starlette application that publishes orders, and starts also while the broker is away."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypedDict

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mqkit import (
    BrokerError,
    Exchange,
    Publisher,
    PublishTimeoutError,
    Queue,
    ReplyLostError,
    RequestTimeoutError,
)

orders = Exchange("shop.orders", mandatory=False)
prices = Queue("shop.prices")


class State(TypedDict):
    publisher: Publisher


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[State]:
    # Not opened here: the first publish connects, and one that cannot is answered with 503.
    publisher = Publisher(os.environ["BROKER_URL"], app_id="shop", timeout=5)
    try:
        yield {"publisher": publisher}
    finally:
        await publisher.close()


async def accept(request: Request) -> Response:
    publisher: Publisher = request.state.publisher
    order = await request.json()
    message_id = await publisher.publish(orders, "order.accepted", order, message_id=order["id"])
    return JSONResponse({"message_id": message_id}, 202)


async def price(request: Request) -> Response:
    publisher: Publisher = request.state.publisher
    sku = request.path_params["sku"]
    return JSONResponse(await publisher.request(prices, {"sku": sku}, dict, timeout=2))


async def not_now(_: Request, error: Exception) -> Response:
    late = (PublishTimeoutError, RequestTimeoutError, ReplyLostError)
    status = 504 if isinstance(error, late) else 503
    return JSONResponse({"detail": type(error).__name__}, status, {"Retry-After": "5"})


app = Starlette(
    lifespan=lifespan,
    routes=[
        Route("/orders", accept, methods=["POST"]),
        Route("/prices/{sku}", price),
    ],
    exception_handlers={BrokerError: not_now},
)
