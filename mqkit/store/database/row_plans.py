"""Plans how rows of a table are written: what is checked of each, and the statement for many.

A plan is made once for the columns that rows of a table give values for. SQLAlchemy's types convert
the values and its compiler makes the statement, so that a row is written as `insert(table)` would
write it. On PostgreSQL the columns go as arrays, where their types allow that: one statement for
however many rows, and prepared once. All else is one statement that is run for each row in one go.
"""

from __future__ import annotations

import datetime as dt
import decimal
import operator
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import ARRAY, Column, Table, bindparam, column, func, insert, select, types
from sqlalchemy.engine import Dialect
from sqlalchemy.sql.compiler import SQLCompiler

from mqkit.errors import RowError

_Kinds = tuple[type, ...]

_PLAIN: tuple[tuple[type[types.TypeEngine[Any]], _Kinds, types.TypeEngine[Any] | None], ...] = (
    (types.Enum, (), None),
    (types.String, (str,), types.Text()),
    (types.SmallInteger, (int,), types.SmallInteger()),
    (types.BigInteger, (int,), types.BigInteger()),
    (types.Integer, (int,), types.Integer()),
    (types.Boolean, (), types.Boolean()),
    (types.Double, (float, int, decimal.Decimal), types.Double()),
    (types.Float, (float, int, decimal.Decimal), types.Double()),
    (types.Numeric, (decimal.Decimal, int, float), types.Numeric()),
    (types.LargeBinary, (), types.LargeBinary()),
    (types.Uuid, (uuid.UUID, str), types.Uuid()),
    (types.Date, (dt.date,), types.Date()),
)
"""The values that a type takes which converts nothing, and the type of the elements of its array.

Without a length or a precision: a cast to those cuts off what does not fit, and says nothing."""


class RowPlan:
    """Checks rows that have values for the same columns of a table, and says how they are written.

    `parameters` makes of many rows what its `statement` is run with.
    """

    __slots__ = (
        "_as_they_are",
        "_columns",
        "_defaults",
        "_take",
        "parameters",
        "statement",
        "table",
    )

    def __init__(self, table: Table, given: Sequence[str], dialect: Dialect) -> None:
        """Plan for rows with these keys.

        :raises RowError: there is no such column, or one is missing that has no default
        """
        self.table = table
        _check_columns(table, given)
        self._defaults = _defaults(table, given)
        named = {*given, *(each.key for each in self._defaults)}
        columns = [_Column(each, dialect) for each in table.c if each.key in named]
        compiled, order = _bulk(table, columns, dialect) or _single(table, columns, dialect)
        self.statement = str(compiled)
        self._columns = [columns[place] for place in order]
        self._take = _taker([each.key for each in self._columns])
        self._as_they_are: set[tuple[type, ...]] = set()
        self.parameters = _maker(compiled)

    @property
    def is_one(self) -> bool:
        """Tell whether many rows are one statement."""
        return self.parameters is _by_column

    @property
    def makes_values(self) -> bool:
        """Tell whether columns have values that are not in their rows, but made by Python."""
        return bool(self._defaults)

    def values(self, row: Mapping[str, Any]) -> tuple[Any, ...]:
        """Check and convert the values of a row, with those of Python's defaults.

        :raises RowError: a column cannot hold its value
        """
        if self._defaults:
            row = _with_defaults(row, self._defaults)
        values = self._take(row)
        kinds = tuple(map(type, values))
        if kinds in self._as_they_are:
            return values
        pairs = list(zip(self._columns, values, strict=True))
        taken = tuple([each.taken(value) for each, value in pairs])
        if all(each.takes_as_it_is(value) for each, value in pairs):
            self._as_they_are.add(kinds)
        return taken


class _Column:
    """What is asked of the values of one column."""

    __slots__ = ("_convert", "_kinds", "_takes_none", "column", "element", "key")

    def __init__(self, of: Column[Any], dialect: Dialect) -> None:
        self.column = of
        self.key = of.key
        stored = of.type.dialect_impl(dialect)
        self._convert: Callable[[Any], Any] | None = stored.bind_processor(dialect)
        base = stored.type_engine(dialect) if isinstance(stored, types.TypeDecorator) else stored
        self._kinds, self.element = _known(base)
        if of.type._has_bind_expression:  # noqa: SLF001 - there is no public way
            self.element = None
        self._takes_none = bool(of.nullable)

    def takes_as_it_is(self, value: Any) -> bool:
        """Tell whether any value of the type of this one, which it takes, needs no look."""
        return self._convert is None and (value is None or bool(self._kinds))

    def taken(self, value: Any) -> Any:
        """Return a value as the driver takes it.

        :raises RowError: the column cannot hold it
        """
        if hasattr(value, "__clause_element__") or hasattr(value, "compile"):
            raise RowError(
                f"{self._what()}: a row that is added has values and no SQL expressions; "
                "execute(insert(table).values(...)) takes one"
            )
        if self._convert is not None:
            try:
                value = self._convert(value)
            except Exception as error:
                raise RowError(f"{self._what()} does not take this {_kind(value)}") from error
        if value is None:
            if self._takes_none:
                return None
            raise RowError(f"{self._what()} takes no None: it is not nullable")
        if self._convert is None and self._kinds and not isinstance(value, self._kinds):
            kinds = " or ".join(kind.__name__ for kind in self._kinds)
            raise RowError(f"{self._what()} takes {kinds}, not {_kind(value)}")
        return value

    def _what(self) -> str:
        # Never the value: a card's number must not get into a log.
        return f"column {self.column.table.fullname}.{self.key} ({self.column.type!r})"


class RowPlans:
    """Keeps the plans of one engine."""

    def __init__(self, dialect: Dialect) -> None:
        """Know none yet."""
        self._dialect = dialect
        self._of: WeakKeyDictionary[Table, dict[tuple[str, ...], RowPlan]] = WeakKeyDictionary()

    def find(self, table: Table, row: Mapping[str, Any]) -> RowPlan:
        """Return the plan for a row.

        :raises RowError: it is not one of this table
        """
        try:
            return self._of[table][tuple(row)]
        except KeyError:
            return self._made(table, row)
        except TypeError:
            _check(table, row)
            raise

    def _made(self, table: Table, row: Mapping[str, Any]) -> RowPlan:
        _check(table, row)
        # In one order for rows whose keys have another one: they are written together.
        plans = self._of.setdefault(table, {})
        given = tuple(sorted(row))
        plan = plans.get(given)
        if plan is None:
            plan = plans[given] = RowPlan(table, given, self._dialect)
        plans[tuple(row)] = plan
        return plan


def _check(table: Any, row: Any) -> None:
    """Refuse what is no table or no row.

    :raises RowError: it is not
    """
    if not isinstance(table, Table):
        raise RowError(
            f"add(...) takes a sqlalchemy.Table first, not {_kind(table)}; objects of the ORM are "
            "added by transaction.session.add(...)"
        )
    if not isinstance(row, Mapping) or not all(isinstance(each, str) for each in row):
        raise RowError(
            f"add(...) takes rows of {table.fullname} as mappings of column names to values, not "
            f"{_kind(row)}"
        )


def _check_columns(table: Table, given: Sequence[str]) -> None:
    if unknown := [name for name in given if name not in table.c]:
        raise RowError(
            f"table {table.fullname} has no column {', '.join(map(repr, unknown))}; it has "
            f"{', '.join(table.c.keys())}"
        )
    for each in table.c:
        if each.key in given or each.nullable or each is table.autoincrement_column:
            continue
        if each.default is None and each.server_default is None:
            raise RowError(
                f"column {table.fullname}.{each.key} needs a value: it takes no NULL, and has no "
                "default (server_default=FetchedValue() says that the database gives it one)"
            )


def _defaults(table: Table, given: Sequence[str]) -> list[Column[Any]]:
    """Return the columns whose values Python makes."""
    return [
        each
        for each in table.c
        if each.key not in given
        and each.default is not None
        and (each.default.is_scalar or each.default.is_callable)
    ]


class _Context:
    """Is what a default of a column may ask for the other values of its row."""

    def __init__(self, row: dict[str, Any]) -> None:
        self.current_parameters = row

    def get_current_parameters(self, isolate_multiinsert_groups: bool = True) -> dict[str, Any]:  # noqa: ARG002
        """Return the values of the row, as SQLAlchemy's context does."""
        return self.current_parameters


def _with_defaults(row: Mapping[str, Any], defaults: Sequence[Column[Any]]) -> dict[str, Any]:
    full = dict(row)
    for each in defaults:
        default: Any = each.default
        full[each.key] = default.arg(_Context(full)) if default.is_callable else default.arg
    return full


def _known(of: types.TypeEngine[Any]) -> tuple[_Kinds, types.TypeEngine[Any] | None]:
    for kind, kinds, element in _PLAIN:
        if isinstance(of, kind):
            return kinds, element
    if isinstance(of, types.DateTime):
        return (dt.datetime,), types.DateTime(timezone=of.timezone)
    return (), None


def _bulk(
    table: Table, columns: Sequence[_Column], dialect: Dialect
) -> tuple[SQLCompiler, list[int]] | None:
    """Return an INSERT that takes its columns as arrays, and their order; None: it cannot."""
    elements = [each.element for each in columns]
    if dialect.driver != "asyncpg" or not columns or any(each is None for each in elements):
        return None
    names = [f"c{place}" for place in range(len(columns))]
    arrays = [
        bindparam(name, type_=ARRAY(element))  # type: ignore[arg-type]
        for name, element in zip(names, elements, strict=True)
    ]
    each = (
        func.unnest(*arrays)
        .table_valued(*map(column, names), with_ordinality="place")
        .render_derived(name="each")
    )
    rows = select(*(each.c[name] for name in names)).order_by(each.c.place)
    made = insert(table).from_select([it.column for it in columns], rows)
    compiled: Any = made.compile(dialect=dialect)
    return compiled, [names.index(name) for name in compiled.positiontup]


def _single(
    table: Table, columns: Sequence[_Column], dialect: Dialect
) -> tuple[SQLCompiler, list[int]]:
    """Return the INSERT of one row, and the order of its columns."""
    keys = [each.key for each in columns]
    compiled: Any = (
        insert(table).inline().compile(dialect=dialect, column_keys=keys, for_executemany=True)
    )
    order = compiled.positiontup if compiled.positional else list(compiled.bind_names.values())
    return compiled, [keys.index(name) for name in order]


def _taker(keys: Sequence[str]) -> Callable[[Mapping[str, Any]], tuple[Any, ...]]:
    """Return what takes the values of these keys from a row."""
    if len(keys) > 1:
        return operator.itemgetter(*keys)
    return lambda row: tuple([row[key] for key in keys])


def _maker(compiled: Any) -> Callable[[Sequence[tuple[Any, ...]]], Any]:
    if compiled.statement.select is not None:
        return _by_column
    if compiled.positional:
        return list
    names = list(compiled.bind_names.values())
    return lambda rows: [dict(zip(names, row, strict=True)) for row in rows]


def _by_column(rows: Sequence[tuple[Any, ...]]) -> tuple[list[Any], ...]:
    return tuple(map(list, zip(*rows, strict=True)))


def _kind(value: object) -> str:
    return f"a value of {type(value).__name__}"
