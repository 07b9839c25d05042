"""What the shop publishes."""

from collections.abc import Callable, Iterator
from functools import cache

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse

from django_shop.models import Order
from mqkit import (
    BlockingPublisher,
    BrokerError,
    Exchange,
    Outgoing,
    PublishTimeoutError,
    Queue,
    ReplyLostError,
    RequestTimeoutError,
)

orders = Exchange("shop.orders", mandatory=False)
prices = Queue("shop.prices")


@cache
def publisher() -> BlockingPublisher:
    return BlockingPublisher(settings.BROKER_URL, app_id="shop", timeout=5)


def publish(order: Order) -> None:
    message = _message(order)
    publisher().publish(
        message.exchange, message.routing_key, message.body, message_id=message.message_id
    )
    Order.objects.filter(pk=order.pk).update(published=True)


def _message(order: Order) -> Outgoing:
    body = {"id": order.id, "sku": order.sku, "amount": order.amount}
    return Outgoing(orders, "order.accepted", body, message_id=order.id)


def publish_pending() -> Iterator[str]:
    """Publish what was stored and not published; yield what is wrong with those that failed."""
    pending = list(Order.objects.filter(published=False).order_by("pk")[:10_000])
    for result in publisher().publish_many(map(_message, pending)):
        if result.error is None:
            Order.objects.filter(pk=result.message_id).update(published=True)
        else:
            yield str(result.error)


class AnswerBrokerErrors:
    """Middleware that answers with 503 or 504 where a view could not publish."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, _: HttpRequest, error: Exception) -> HttpResponse | None:
        if not isinstance(error, BrokerError):
            return None
        late = (PublishTimeoutError, RequestTimeoutError, ReplyLostError)
        return JsonResponse(
            {"detail": type(error).__name__},
            status=504 if isinstance(error, late) else 503,
            headers={"Retry-After": "5"},
        )
