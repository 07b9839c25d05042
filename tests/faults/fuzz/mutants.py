"""Promises broken on purpose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mutant:
    """A promise that is broken by replacing a part of mqkit in this process."""

    what: str
    apply: Callable[[], None]


MUTANTS: dict[str, Mutant] = {}
