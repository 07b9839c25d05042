"""Declares cases, finds all of them, and selects some."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from types import ModuleType
from typing import Any, Literal, overload

from mqkit.errors import ConfigurationError
from tests.conformance.suite.env import BytesEnv, DriverEnv, Env
from tests.conformance.suite.features import Feature

About = Literal["broker", "driver", "bytes"]
"""The broker, over any raw client; mqkit's drivers; the bytes on the wire."""

CASES = "tests.conformance.suite.cases"

Function = Callable[[Any], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Case:
    """One promise: `id` is `module.function`, without folders; `sentence` is what it claims.

    `needs` are the features without which it does not hold, see `features.LACKS`.
    """

    id: str
    sentence: str
    area: str
    about: About
    needs: frozenset[Feature]
    function: Function = field(compare=False, repr=False)


@overload
def case(
    area: str, *, about: Literal["broker"] = ..., needs: Collection[Feature] = ...
) -> Callable[[Callable[[Env], Awaitable[None]]], Case]: ...
@overload
def case(
    area: str, *, about: Literal["driver"], needs: Collection[Feature] = ...
) -> Callable[[Callable[[DriverEnv], Awaitable[None]]], Case]: ...
@overload
def case(
    area: str, *, about: Literal["bytes"], needs: Collection[Feature] = ...
) -> Callable[[Callable[[BytesEnv], Awaitable[None]]], Case]: ...
def case(
    area: str, *, about: About = "broker", needs: Collection[Feature] = ()
) -> Callable[[Any], Case]:
    """Make a case of a function; its docstring is the sentence.

    :raises mqkit.errors.ConfigurationError: it has no docstring
    """

    def declare(function: Function) -> Case:
        module = function.__module__.rpartition(".")[2]
        name = getattr(function, "__name__", "")
        sentence = " ".join((inspect.getdoc(function) or "").partition("\n\n")[0].split())
        if not sentence:
            raise ConfigurationError(f"case {module}.{name}: say in its docstring what it claims")
        return Case(f"{module}.{name}", sentence, area, about, frozenset(needs), function)

    return declare


def collect(package: str = CASES) -> list[Case]:
    """Import all modules in and under a package, and return their cases.

    They come by the names of their modules, whichever folder those are in, and within a module in
    the order of the source.

    :raises mqkit.errors.ConfigurationError: a case is not named after its function and module
    """
    root = importlib.import_module(package)
    names = [info.name for info in pkgutil.walk_packages(root.__path__, f"{package}.")]
    names.sort(key=lambda name: name.rpartition(".")[2])
    return [case for name in names for case in _cases_of(importlib.import_module(name))]


def _cases_of(module: ModuleType) -> list[Case]:
    short = module.__name__.rpartition(".")[2]
    found = []
    for name, value in vars(module).items():
        if isinstance(value, Case):
            if value.id != f"{short}.{name}":
                raise ConfigurationError(
                    f"{module.__name__}.{name} holds the case {value.id}: a case is found under "
                    "the name of its function, in its own module"
                )
            found.append(value)
    return found


def select(cases: Sequence[Case], patterns: Collection[str]) -> list[Case]:
    """Return the cases whose id or area matches one of the glob patterns; all without a pattern.

    :raises mqkit.errors.ConfigurationError: none matches
    """
    if not patterns:
        return list(cases)
    found = [
        case
        for case in cases
        if any(fnmatchcase(case.id, p) or fnmatchcase(case.area, p) for p in patterns)
    ]
    if not found:
        raise ConfigurationError(f"no case matches {' '.join(patterns)}")
    return found
