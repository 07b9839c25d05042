"""The registry of the matrix's rows.

    @row(1, "broker crash under load")
    async def crash(bench: Bench) -> None:
        ...

A row injects `bench.faults` faults and tells the bench what it published and what recovered; the
bench itself judges, the same for every row, what was lost, what had two effects, whether the
queues are empty and whether a secret is in a log (`tests.faults.matrix.bench`).
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from tests.faults.matrix.bench import Bench
from tests.faults.matrix.figures import Figures

__all__ = ["LONG_FAULTS", "Bench", "Figures", "Row", "row", "rows"]

BROKERS = ("4.0", "4.3")

LONG_FAULTS = 50
"""Faults that the long form injects at least, for each row and broker."""

Run = Callable[[Bench], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the matrix."""

    number: int
    title: str
    brokers: tuple[str, ...]
    """The versions that `make faults` runs it on."""
    short: int
    """Faults of the short form."""
    run: Run
    long: int = LONG_FAULTS
    """Faults of the long form."""


_rows: dict[int, Row] = {}


def row(
    number: int,
    title: str,
    *,
    brokers: tuple[str, ...] = BROKERS,
    short: int = 1,
    long: int = LONG_FAULTS,
) -> Callable[[Run], Run]:
    """Register a row; its function takes the bench and returns when it has seen enough."""

    def register(run: Run) -> Run:
        if number in _rows:
            raise ValueError(f"row {number} is there already: {_rows[number].title}")
        _rows[number] = Row(number, title, brokers, short, run, long)
        return run

    return register


def rows() -> Mapping[int, Row]:
    """All rows by number, from every module `rows_*` of this package."""
    package = importlib.import_module(__package__ or "")
    for module in pkgutil.iter_modules(package.__path__):
        if module.name.startswith("rows_"):
            importlib.import_module(f"{package.__name__}.{module.name}")
    return MappingProxyType(dict(sorted(_rows.items())))
