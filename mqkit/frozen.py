"""Frozen dataclasses that are made as fast as others: for those of which every message has some.

The `__init__` of a frozen one goes by `object.__setattr__` for each field, which for a message's 13
properties takes a microsecond: three times as long as this does.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

P = ParamSpec("P")
T = TypeVar("T")


def maker(cls: Callable[P, T]) -> Callable[P, T]:
    """What takes the arguments of the class and returns an instance of it.

    It is a class with the same slots that is not frozen, whose instances change their class once
    they are filled: the two have one layout (the Python reference, 3.3.2.4 "__slots__").

    :param cls: a dataclass with `slots=True`, without a base, a `__post_init__` or an `__init__`
    """
    fields: list[tuple[str, Any, Any]] = []
    for field in dataclasses.fields(cast(Any, cls)):
        default: dict[str, Any] = {"kw_only": field.kw_only}
        if field.default is not dataclasses.MISSING:
            default["default"] = field.default
        if field.default_factory is not dataclasses.MISSING:
            default["default_factory"] = field.default_factory
        fields.append((field.name, field.type, dataclasses.field(**default)))

    def freeze(self: Any) -> None:
        self.__class__ = cls

    twin = dataclasses.make_dataclass(
        f"_{cls.__name__}", fields, slots=True, eq=False, namespace={"__post_init__": freeze}
    )
    return cast(Callable[P, T], twin)
