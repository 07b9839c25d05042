"""Validation that stops early: the same values, and few errors whatever comes."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter, OrderedDict, deque
from decimal import Decimal
from typing import Annotated, Any, Literal, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as pydantic_dataclass
from typing_extensions import TypedDict

from mqkit.bodies.schemas import Schema, schemas_in, stop_early, validator


class Forbids(BaseModel):
    """A model that forbids what it does not know."""

    model_config = ConfigDict(extra="forbid")
    a: int = 0
    inner: Forbids | None = None


class Ignores(BaseModel):
    """One that ignores it, inside of one that forbids it."""

    b: int = 0


class Outer(BaseModel):
    """Models within each other have their own say."""

    model_config = ConfigDict(extra="forbid")
    ignores: Ignores = Ignores()
    metadata: dict[str, int] = {}
    function: list[int] = []


class ForbidsTyped(TypedDict, total=False):
    """A TypedDict that forbids what it does not know."""

    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]
    a: int


class ForbidsTypedAlias(TypedDict, total=False):
    """One with an alias."""

    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]
    a: Annotated[int, Field(alias="b")]


@pydantic_dataclass(config=ConfigDict(extra="forbid"))
class ForbidsData:
    """A dataclass that forbids what it does not know."""

    a: int = 0


class ForbidsAliases(BaseModel):
    """A model whose field is called otherwise in JSON."""

    model_config = ConfigDict(extra="forbid")
    a: int = Field(default=0, alias="b")


class ForbidsTypes(BaseModel):
    """A model whose keys that it has no field for have a type, and are forbidden."""

    model_config = ConfigDict(extra="forbid")
    __pydantic_extra__: dict[str, int] = Field(init=False)


@pydantic_dataclass(config=ConfigDict(extra="forbid"))
class ForbidsAliased:
    """One whose field is called otherwise in JSON."""

    a: int = Field(default=0, alias="b")


@dataclasses.dataclass
class Plain:
    """A dataclass of the standard library."""

    a: int = 0


TYPES: list[Any] = [
    Forbids,
    Outer,
    ForbidsTyped,
    ForbidsTypedAlias,
    ForbidsData,
    ForbidsAliased,
    ForbidsAliases,
    ForbidsTypes,
    Plain,
    list[Forbids | Plain],
    list[int],
    set[int],
    frozenset[int],
    deque[int],
    tuple[int, ...],
    tuple[int, str],
    dict[str, int],
    dict[int, int],
    OrderedDict[str, int],
    Counter[str],
    list[int] | dict[str, int],
    dict[str, int] | dict[str, str] | dict[str, Any],
    list[int | str | None],
    dict[str, list[dict[str, Decimal]]],
]

VALIDATORS = [
    (adapter, validator(cast("Schema", adapter.core_schema), stop_early))
    for adapter in map(TypeAdapter, TYPES)
]

keys = st.sampled_from(["a", "b", "c", "inner", "ignores", "metadata", "function", "1"])
values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["1", "x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=6,
)


@given(value=values)
def test_what_stops_early_reads_the_same(value: object) -> None:
    """Each body is read as the same value by each type, or refused by both validators of it."""
    body = json.dumps(value)
    for whole, early in VALIDATORS:
        try:
            expected = whole.validate_json(body)
        except ValidationError:
            with pytest.raises(ValidationError):
                early.validate_json(body)
            continue
        found = early.validate_json(body)
        assert found == expected
        assert repr(found) == repr(expected)


MANY = 2_000
WRONG = ",".join(['"x"'] * MANY)
WRONG_KEYS = ",".join(f'"k{n}":"x"' for n in range(MANY))
SAME_KEYS = ",".join(['"":"x"'] * MANY)

FLOODS: list[tuple[Any, str]] = [
    (list[int], f"[{WRONG}]"),
    (set[int], f"[{WRONG}]"),
    (frozenset[int], f"[{WRONG}]"),
    (deque[int], f"[{WRONG}]"),
    (tuple[int, ...], f"[{WRONG}]"),
    (tuple[int, int], f"[{WRONG}]"),
    (dict[str, int], f"{{{WRONG_KEYS}}}"),
    (dict[int, str], f"{{{WRONG_KEYS}}}"),
    (dict[int, int], f"{{{SAME_KEYS}}}"),
    (OrderedDict[str, int], f"{{{WRONG_KEYS}}}"),
    (Counter[str], f"{{{WRONG_KEYS}}}"),
    (list[list[int]], f"[{','.join([f'[{WRONG}]'] * 50)}]"),
    (list[int | bool | float | Decimal], f"[{WRONG}]"),
    (list[int] | set[int] | dict[str, int] | tuple[int, ...], f"[{WRONG}]"),
    (dict[str, int] | dict[str, bool] | list[int], f"{{{WRONG_KEYS}}}"),
    (Annotated[list[int], Field(min_length=1)] | None, f"[{WRONG}]"),
    (list[Annotated[int, Field(gt=0)]], f"[{','.join(['0'] * MANY)}]"),
    (list[Literal["a", "b"]], f"[{WRONG}]"),
    (list[Forbids], "[" + ",".join(['{"z":1}'] * MANY) + "]"),
    (Forbids, f"{{{WRONG_KEYS}}}"),
    (Forbids, f'{{"inner":{{"inner":{{{WRONG_KEYS}}}}}}}'),
    (ForbidsAliases, f"{{{WRONG_KEYS}}}"),
    (ForbidsTypes, f"{{{WRONG_KEYS}}}"),
    (ForbidsTyped, f"{{{WRONG_KEYS}}}"),
    (ForbidsTyped, f"{{{SAME_KEYS}}}"),
    (ForbidsData, f"{{{SAME_KEYS}}}"),
    (Outer, f'{{"metadata":{{{WRONG_KEYS}}},"function":[{WRONG}]}}'),
]


@pytest.mark.parametrize(("kind", "body"), FLOODS)
def test_errors_are_few_whatever_comes(kind: Any, body: str) -> None:
    """There are no more of them than a type has choices and fields."""
    with pytest.raises(ValidationError) as caught:
        validator(cast("Schema", TypeAdapter(kind).core_schema), stop_early).validate_json(body)
    assert caught.value.error_count() <= 10


def test_every_schema_is_found() -> None:
    """Fields may be called as parts of a schema are; what is no schema is not looked into."""

    class Named(BaseModel):
        metadata: Decimal
        config: dict[str, Decimal]
        default: Decimal = Decimal(1)
        cls: Any = {"type": "fraction"}

    kinds = [schema["type"] for schema in schemas_in(TypeAdapter(Named).core_schema)]
    assert kinds.count("decimal") == 3
    assert "fraction" not in kinds
