"""Annotations that cannot be a handler's, and what its author is told."""

from __future__ import annotations

import typing
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel
from typing_extensions import TypedDict

from mqkit import Delivery, HandlerError, Publisher, Queue, Retry, Service

if TYPE_CHECKING:
    from decimal import Decimal as Money


class Order(BaseModel):
    """A body."""


class Keyed(TypedDict):
    """A dict with known keys."""

    account: str


async def for_checkers_only(body: Money) -> None: ...
async def no_attribute(body: typing.Nothing) -> None: ...  # type: ignore[name-defined]
async def optional_delivery(order: Order, delivery: Delivery | None) -> None: ...
async def optional_publisher(order: Order, publisher: Publisher | None) -> None: ...
async def defaulted_model(order: Order | None = None) -> None: ...
async def defaulted_dict(delivery: Delivery, order: Keyed = {"account": ""}) -> None: ...  # noqa: B006
async def defaulted_number(delivery: Delivery, times: int = 3) -> None: ...
async def method(self, order: Order) -> None: ...  # type: ignore[no-untyped-def]  # noqa: ANN001
async def unsaid(order) -> None: ...  # type: ignore[no-untyped-def]  # noqa: ANN001


async def unreadable(order: Any) -> None: ...


unreadable.__annotations__["order"] = "Order["


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (for_checkers_only, "names 'Money', which is not defined in its module; annotations are"),
        (no_attribute, "an annotation cannot be read: module 'typing' has no attribute 'Nothing'"),
        (unreadable, "an annotation cannot be read"),
        (optional_delivery, "'delivery' always gets a Delivery; annotate it delivery: Delivery"),
        (optional_publisher, "annotate it publisher: Publisher"),
        (defaulted_model, "argument 'order' has a default, and would have that for every message"),
        (defaulted_dict, "argument 'order' has a default"),
        (method, "a method is registered once there is an object"),
        (unsaid, "order: Order for the body, order: Delivery for its headers"),
    ],
)
def test_an_annotation_that_cannot_work_is_explained(
    function: Callable[..., Any], words: str
) -> None:
    """What is wrong with which argument, and what to write."""
    with pytest.raises(HandlerError) as caught:
        Service("s", retry=Retry.never()).handler(Queue("q"))(function)
    assert words in str(caught.value)
    assert f"handler {__name__}.{function.__name__}: " in str(caught.value)


def test_a_plain_default_is_the_functions_own() -> None:
    """A number with a default is for who calls the function, and no body."""
    service = Service("s", retry=Retry.never())
    service.handler(Queue("q"))(defaulted_number)
    assert service.handlers[0].plan.body is None


@pytest.mark.skipif("sys.version_info >= (3, 12)", reason="pydantic reads it from there on")
def test_a_typed_dict_of_an_old_python_is_explained() -> None:
    """Not as something that must be provided."""
    body = typing.TypedDict("body", {"account": str})  # noqa: UP013

    async def handle(order: Any) -> None: ...

    handle.__annotations__["order"] = body
    with pytest.raises(HandlerError, match="import TypedDict from typing_extensions"):
        Service("s", retry=Retry.never()).handler(Queue("q"))(handle)
