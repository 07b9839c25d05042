"""The fields of a body, which `order_by` may name."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, NamedTuple, NewType

import pytest
from pydantic import BaseModel, ConfigDict, computed_field
from typing_extensions import TypedDict

from mqkit import HandlerError, Queue, Retry, Service


class Model(BaseModel):
    """A model with what it computes."""

    account: str
    number: int = 0

    @property
    def shard(self) -> int:
        return self.number % 7

    @computed_field
    def label(self) -> str:
        return "label"


class Open(BaseModel):
    """A model that keeps what else comes."""

    model_config = ConfigDict(extra="allow")


@dataclass
class Plain:
    """A dataclass."""

    account: str

    @cached_property
    def first(self) -> str:
        return self.account[:1]


class Pair(NamedTuple):
    """A tuple with names."""

    account: str
    number: int


class Keyed(TypedDict):
    """A dict with known keys."""

    account: str


class Longer(Keyed):
    """One that inherits."""

    number: int


Order = NewType("Order", Model)


def key_of(body_type: Any, order_by: str, body: Any) -> Any:
    """Register a handler of these bodies, and ask for the key of one."""
    service = Service("s", retry=Retry.never())

    async def handle(body: Any) -> None: ...

    handle.__annotations__["body"] = body_type
    service.handler(Queue("q", partitions=2), order_by=order_by)(handle)
    (handler,) = service.handlers
    assert handler.order_by is not None
    return handler.order_by(body)


MODEL = Model(account="a", number=8)


@pytest.mark.parametrize(
    ("body_type", "order_by", "body", "key"),
    [
        (Model, "account", MODEL, "a"),
        (Model, "shard", MODEL, 1),
        (Model, "label", MODEL, "label"),
        (Order, "account", MODEL, "a"),
        (Annotated[Model, "note"], "account", MODEL, "a"),
        (Open, "anything", Open.model_validate({"anything": 3}), 3),
        (Plain, "account", Plain("b"), "b"),
        (Plain, "first", Plain("bc"), "b"),
        (Pair, "account", Pair("c", 1), "c"),
        (Keyed, "account", {"account": "d"}, "d"),
        (Longer, "account", {"account": "e", "number": 2}, "e"),
        (dict[str, Any], "account", {"account": "f"}, "f"),
        (dict[str, Any], "account-id", {"account-id": "g"}, "g"),
        (Model | Plain, "account", Plain("h"), "h"),
        (Keyed | dict[str, int], "account", {"account": 9}, 9),
        (Model | None, "account", MODEL, "a"),
        (Any, "account", MODEL, "a"),
        (int, "real", 4, 4),
    ],
)
def test_the_field_of_a_body_is_its_key(
    body_type: Any, order_by: str, body: Any, key: object
) -> None:
    """An attribute of a model, a dataclass or a tuple, and of what is a dict its key's value."""
    assert key_of(body_type, order_by, body) == key


@pytest.mark.parametrize(
    ("body_type", "order_by", "words"),
    [
        (Model, "acount", "no field of Model; did you mean account? It has account, number, label"),
        (Model, "zzz", "order_by='zzz' is no field of Model; it has account, number, label, shard"),
        (Model, "model_dump", "no field of Model"),
        (Plain, "acount", "no field of Plain; did you mean account? It has account, first"),
        (Pair, "acount", "no field of Pair; did you mean account?"),
        (Longer, "acount", "no field of Longer; did you mean account?"),
        (Model | Pair, "shard", "no field of Pair"),
        (Model | Keyed, "account", "a key of Keyed, and an attribute of Model; give a function"),
        (str, "account", "a body of type str has no fields; give a function of the body"),
        (list[Model], "account", "a body of type list has no fields"),
        (Any, "account-id", "is not the name of an attribute"),
    ],
)
def test_what_is_no_field_is_refused(body_type: Any, order_by: str, words: str) -> None:
    """When it is registered, with the fields there are: each message would be a dead letter."""
    with pytest.raises(HandlerError) as caught:
        key_of(body_type, order_by, None)
    assert words in str(caught.value)
    assert "handle: order_by=" in str(caught.value)
