"""Plans how one of a handler's statements is sent by the driver, and makes its result.

SQLAlchemy compiles a statement and converts its values; the result is one of SQLAlchemy's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy.engine import CursorResult
from sqlalchemy.engine.cursor import NoCursorDMLFetchStrategy
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.compiler import SQLCompiler

from mqkit.store.database.row_plans import RowPlan, taker

_NO_ROWS = NoCursorDMLFetchStrategy()

_NOT_COUNTED = (-1, None)
"""What asyncpg says of many rows, and SQLAlchemy after it."""

Told = tuple[int, int | None]
"""What the database says of a statement: the rows that it concerned, and the last one's id."""


class Plan:
    """A statement as it is sent, and what is done with its parameters."""

    __slots__ = ("_compiled", "_converters", "_positions", "_take", "statement")

    for_each = False
    """Whether it is run for each of the rows that `values` returns."""

    def __init__(self, compiled: SQLCompiler, names: Iterable[str]) -> None:
        """Plan for parameters of these names."""
        self.statement = str(compiled)
        self._compiled = compiled
        self._positions = compiled.positiontup or []
        self._converters = _converters(compiled)
        keys = keys_of(compiled, names)
        self._take = None if keys is None else taker(keys)
        """What takes the values; None: some are the statement's own."""

    def values(self, parameters: Any) -> list[Any]:
        """Return all parameters in order as the driver takes them."""
        if self._take is not None:
            sent = list(self._take(parameters))
        else:
            given = self.given(parameters)
            sent = [given[name] for name in self._positions]
        for place, convert in self._converters:
            sent[place] = convert(sent[place])
        return sent

    def given(self, parameters: Any) -> Mapping[str, Any]:
        """Return all parameters by their names, as an error or a result has them."""
        return self._compiled.construct_params(parameters)

    def result(self, connection: AsyncConnection, parameters: Any, told: Told) -> CursorResult[Any]:
        """Make the result that SQLAlchemy would make, from what the database said."""
        # The handler may write its next row into the same dict.
        kept = None if parameters is None else dict(parameters)
        return _Executed(connection, _Context(self._compiled, kept, told))


def _converters(compiled: SQLCompiler) -> list[tuple[int, Callable[[Any], Any]]]:
    """Return what makes of a parameter what the driver takes, by its place; others are as given."""
    dialect = compiled.dialect
    kinds = {name: bind.type for bind, name in compiled.bind_names.items()}
    converters = (
        kinds[name].dialect_impl(dialect).bind_processor(dialect)
        for name in compiled.positiontup or []
    )
    return [(place, each) for place, each in enumerate(converters) if each is not None]


class _Context:
    """What a result asks its execution for, as far as one without rows has it."""

    __slots__ = ("compiled", "dialect", "lastrowid", "parameters", "rowcount")

    executemany = False
    returned_default_rows = None
    _is_explicit_returning = False
    _has_rowcount = True

    def __init__(self, compiled: SQLCompiler, parameters: Any, told: Told) -> None:
        self.compiled: Any = compiled
        self.dialect = compiled.dialect
        self.parameters = parameters
        self.rowcount, self.lastrowid = told

    @property
    def compiled_parameters(self) -> list[Mapping[str, Any]]:
        return [self.compiled.construct_params(self.parameters)]

    @property
    def isinsert(self) -> bool:
        return bool(self.compiled.isinsert)

    @property
    def isupdate(self) -> bool:
        return bool(self.compiled.isupdate)

    @property
    def postfetch_cols(self) -> Any:
        return self.compiled.postfetch

    @property
    def prefetch_cols(self) -> list[Any]:
        return []

    @property
    def inserted_primary_key_rows(self) -> list[Any]:
        getter = self.compiled._inserted_primary_key_from_lastrowid_getter  # noqa: SLF001
        return [getter(self.lastrowid, row) for row in self.compiled_parameters]

    def get_lastrowid(self) -> int | None:
        return self.lastrowid

    def lastrow_has_defaults(self) -> bool:
        return bool(self.compiled.postfetch)


class _ManyContext(_Context):
    """The same of a statement that is given many rows."""

    __slots__ = ()

    executemany = True

    @property
    def compiled_parameters(self) -> list[Mapping[str, Any]]:
        return [self.compiled.construct_params(row) for row in self.parameters]

    @property
    def inserted_primary_key_rows(self) -> list[Any]:
        getter = self.compiled._inserted_primary_key_from_lastrowid_getter  # noqa: SLF001
        return [getter(None, row) for row in self.compiled_parameters]


class _Executed(CursorResult[Any]):
    """The result of a statement that returns no rows."""

    # The same of all: each statement makes a result, which hardly any handler looks at.
    cursor: Any = None
    cursor_strategy = _NO_ROWS
    _echo = False
    _metadata = CursorResult._no_result_metadata  # noqa: SLF001
    _soft_closed = True

    def __init__(self, connection: AsyncConnection, context: Any) -> None:
        self.context = context
        self.dialect = context.dialect
        self.connection = connection.sync_connection  # type: ignore[assignment]


class EachPlan:
    """A statement that the driver runs for each of many rows, in one go."""

    __slots__ = ("_compiled", "_converters", "_take", "statement")

    for_each = True

    def __init__(self, compiled: SQLCompiler, keys: Sequence[str]) -> None:
        """Plan for rows that have these keys, in the order of the statement's parameters."""
        self.statement = str(compiled)
        self._compiled = compiled
        self._take = taker(keys)
        self._converters = _converters(compiled)

    def values(self, parameters: Any) -> Any:
        """Return the rows as the driver takes them."""
        take = self._take
        rows = [list(take(row)) for row in parameters]
        for place, convert in self._converters:
            for row in rows:
                row[place] = convert(row[place])
        return rows

    def given(self, parameters: Any) -> Any:
        """Return the rows as an error has them."""
        return parameters

    def result(self, connection: AsyncConnection, parameters: Any, told: Told) -> CursorResult[Any]:
        """Make the result that SQLAlchemy would make."""
        return _Executed(connection, _ManyContext(self._compiled, parameters, told))


def keys_of(compiled: SQLCompiler, given: Iterable[str]) -> list[str] | None:
    """Return which key of a row each parameter is for; None: one of them is for none."""
    names = {name: bind.key for bind, name in compiled.bind_names.items()}
    keys = [names.get(name, "") for name in compiled.positiontup or []]
    return keys if keys and set(keys).issubset(given) else None


class ManyPlan:
    """An INSERT of many rows as it is sent: its columns as arrays, in one statement."""

    __slots__ = ("_compiled", "_row", "statement")

    for_each = False

    def __init__(self, row: RowPlan, compiled: SQLCompiler) -> None:
        """Plan for rows of these columns.

        :param compiled: what SQLAlchemy would run for each of them
        """
        self.statement = row.statement
        self._row = row
        self._compiled = compiled

    def values(self, parameters: Any) -> Any:
        """Return the columns of the rows as the driver takes them."""
        values = self._row.values
        return self._row.parameters([values(row) for row in parameters])

    def given(self, parameters: Any) -> Any:
        """Return the rows as an error has them."""
        return parameters

    def result(
        self,
        connection: AsyncConnection,
        parameters: Any,
        told: Told,  # noqa: ARG002 - which SQLAlchemy does not tell
    ) -> CursorResult[Any]:
        """Make the result that SQLAlchemy would make."""
        return _Executed(connection, _ManyContext(self._compiled, parameters, _NOT_COUNTED))
