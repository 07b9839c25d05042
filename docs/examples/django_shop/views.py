"""The views of the shop."""

import json
from functools import partial

from django.db import transaction
from django.http import HttpRequest, JsonResponse

from django_shop.messages import prices, publish, publisher
from django_shop.models import Order


def accept(request: HttpRequest) -> JsonResponse:
    given = json.loads(request.body)
    with transaction.atomic():
        order, _ = Order.objects.get_or_create(
            id=given["id"], defaults={"sku": given["sku"], "amount": given["amount"]}
        )
        if not order.published:
            transaction.on_commit(partial(publish, order))
    return JsonResponse({"message_id": order.id}, status=202)


def price(_: HttpRequest, sku: str) -> JsonResponse:
    return JsonResponse(publisher().request(prices, {"sku": sku}, dict, timeout=2))
