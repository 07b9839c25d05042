"""A Flask application that publishes orders and asks another service for prices."""

import os
from typing import cast

from flask import Flask, current_app, request
from flask.typing import ResponseReturnValue

from mqkit import (
    BlockingPublisher,
    BrokerError,
    Exchange,
    PublishTimeoutError,
    Queue,
    ReplyLostError,
    RequestTimeoutError,
)

orders = Exchange("shop.orders", mandatory=False)
prices = Queue("shop.prices")


def create_app() -> Flask:
    app = Flask(__name__)
    # It opens nothing yet: a server that makes the application first and forks afterwards
    # has a connection in each worker, which the first publish there opens.
    app.extensions["publisher"] = BlockingPublisher(
        os.environ["BROKER_URL"], app_id="shop", timeout=5
    )
    app.add_url_rule("/orders", view_func=accept, methods=["POST"])
    app.add_url_rule("/prices/<sku>", view_func=price)
    app.register_error_handler(BrokerError, not_now)
    return app


def publisher() -> BlockingPublisher:
    return cast(BlockingPublisher, current_app.extensions["publisher"])


def accept() -> ResponseReturnValue:
    order = request.get_json()
    message_id = publisher().publish(orders, "order.accepted", order, message_id=order["id"])
    return {"message_id": message_id}, 202


def price(sku: str) -> ResponseReturnValue:
    return publisher().request(prices, {"sku": sku}, dict, timeout=2)


def not_now(error: BrokerError) -> ResponseReturnValue:
    late = (PublishTimeoutError, RequestTimeoutError, ReplyLostError)
    status = 504 if isinstance(error, late) else 503
    return {"detail": type(error).__name__}, status, {"Retry-After": "5"}
