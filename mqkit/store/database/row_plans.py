"""Plans how rows of a table are written: what is checked of each, and the statement for many.

A plan is made once for the columns that rows of a table give values for. SQLAlchemy's types convert
the values and its compiler makes the statement, so that a row is written as `insert(table)` would
write it. On PostgreSQL the columns go as arrays, where their types allow that: one statement for
however many rows, and prepared once. All else is one statement that is run for each row in one go.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import ARRAY, Column, Table, bindparam, column, func, insert, select
from sqlalchemy.engine import Dialect
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.sql.compiler import SQLCompiler

from mqkit.errors import RowError
from mqkit.store.database.row_columns import RowColumn, kind_of


class RowPlan:
    """Checks rows that have values for the same columns of a table, and says how they are written.

    `parameters` makes of many rows what its `statement` is run with.
    """

    __slots__ = (
        "_columns",
        "_defaults",
        "_looks",
        "_take",
        "is_one",
        "parameters",
        "statement",
        "table",
    )

    def __init__(self, table: Table, given: Sequence[str], dialect: Dialect) -> None:
        """Plan for rows with these keys.

        :raises RowError: there is no such column, or one is missing that has no default
        """
        self.table = table
        _check_columns(table, given, dialect)
        self._defaults = _defaults(table, given)
        named = {*given, *(each.key for each in self._defaults)}
        columns = [RowColumn(each, dialect) for each in table.c if each.key in named]
        bulk = _bulk(table, columns, dialect)
        compiled, names = bulk or _single(table, columns, dialect)
        self.is_one = bulk is not None
        """Whether many rows are one statement."""
        self.statement = str(compiled)
        order, constants = _parameters(compiled, names, table)
        self._columns = [columns[place] for place in order]
        self._take = taker([each.key for each in self._columns])
        self._looks: dict[tuple[type, ...], _Look] = {}
        """By the types of values that a row had, what is to be done with another one's of them."""
        self.parameters = _maker(compiled, constants, is_one=self.is_one)

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
        look = self._looks.get(kinds)
        if look is not None:
            return look.taken(values)
        pairs = list(zip(self._columns, values, strict=True))
        taken = tuple([each.taken(value) for each, value in pairs])
        self._looks[kinds] = _Look(pairs)
        return taken


class _Look:
    """Checks and converts the values of a row, of which the types are known to be taken."""

    __slots__ = ("_converted", "_limits")

    def __init__(self, pairs: Sequence[tuple[RowColumn, Any]]) -> None:
        """Look at a row's columns and values: what holds for all values of their types."""
        as_they_are = [each.takes_as_it_is(value) for each, value in pairs]
        self._limits = [
            (place, each.limit[0], each)
            for place, (each, _) in enumerate(pairs)
            if each.limit is not None and as_they_are[place]
        ]
        self._converted = [
            (place, each) for place, (each, _) in enumerate(pairs) if not as_they_are[place]
        ]

    def taken(self, values: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the values as the driver takes them.

        :raises RowError: a column cannot hold its value
        """
        for place, is_within, column_ in self._limits:
            if not is_within(values[place]):
                column_.check_limit(values[place])
        if not self._converted:
            return values
        row = list(values)
        for place, column_ in self._converted:
            row[place] = column_.converted(row[place])
        return tuple(row)


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
    check_table(table)
    if not isinstance(row, Mapping) or not all(isinstance(each, str) for each in row):
        raise RowError(
            f"add(...) takes rows of {table.fullname} as mappings of column names to values, not "
            f"{kind_of(row)}; several are given as add(table, *rows)"
        )


def check_table(table: Any) -> None:
    """Refuse what is no table.

    :raises RowError: it is not
    """
    if isinstance(table, Table):
        return
    if isinstance(table, type) and hasattr(table, "__table__"):
        raise RowError(
            f"add(...) takes a sqlalchemy.Table first: {table.__name__}.__table__; objects of the "
            "ORM are added by transaction.session.add(...)"
        )
    raise RowError(
        f"add(...) takes a sqlalchemy.Table first, not {kind_of(table)}; objects of the ORM are "
        "added by transaction.session.add(...)"
    )


def _check_columns(table: Table, given: Sequence[str], dialect: Dialect) -> None:
    if unknown := [name for name in given if name not in table.c]:
        raise RowError(
            f"table {table.fullname} has no column {', '.join(map(repr, unknown))}; it has "
            f"{', '.join(table.c.keys())}"
        )
    for each in table.c:
        if each.key in given:
            _check_taking(each, dialect)
            continue
        if each.nullable or each is table.autoincrement_column:
            continue
        if each.default is None and each.server_default is None:
            raise RowError(
                f"column {table.fullname}.{each.key} needs a value: it takes no NULL, and has no "
                "default (server_default=FetchedValue() says that the database gives it one)"
            )


def _check_taking(of: Column[Any], dialect: Dialect) -> None:
    """Refuse a value for a column whose values the database makes, whatever it is given."""
    if of.computed is not None:
        raise RowError(
            f"column {of.table.fullname}.{of.key} is computed by the database: a row that is added "
            "has no value for it"
        )
    if of.identity is not None and of.identity.always and dialect.supports_identity_columns:
        raise RowError(
            f"column {of.table.fullname}.{of.key} is an identity that the database always makes: a "
            "row that is added has no value for it (Identity(always=False) takes one)"
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

    def __init__(self, of: Column[Any], row: dict[str, Any]) -> None:
        self._of = of
        self.current_parameters = row

    def __getattr__(self, name: str) -> Any:
        raise RowError(
            f"the default of column {self._of.table.fullname}.{self._of.key} asks for {name!r} of "
            "SQLAlchemy's context, which there is none of yet when a row is added; give the row "
            "the value, or use execute(insert(table), row)"
        )

    def get_current_parameters(self, isolate_multiinsert_groups: bool = True) -> dict[str, Any]:  # noqa: ARG002
        """Return the values of the row, as SQLAlchemy's context does."""
        return self.current_parameters


def _with_defaults(row: Mapping[str, Any], defaults: Sequence[Column[Any]]) -> dict[str, Any]:
    full = dict(row)
    for each in defaults:
        default: Any = each.default
        full[each.key] = default.arg(_Context(each, full)) if default.is_callable else default.arg
    return full


def _bulk(
    table: Table, columns: Sequence[RowColumn], dialect: Dialect
) -> tuple[SQLCompiler, list[str]] | None:
    """Return an INSERT that takes its columns as arrays, and their names; None: it cannot."""
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
    return compiled, names


def _single(
    table: Table, columns: Sequence[RowColumn], dialect: Dialect
) -> tuple[SQLCompiler, list[str]]:
    """Return the INSERT of one row, and the names of its columns."""
    keys = [each.key for each in columns]
    compiled: Any = (
        insert(table).inline().compile(dialect=dialect, column_keys=keys, for_executemany=True)
    )
    return compiled, keys


def _names(compiled: Any) -> list[str]:
    """Return the names of a statement's parameters, in their order."""
    return list(compiled.positiontup if compiled.positional else compiled.bind_names.values())


def _parameters(
    compiled: Any, names: Sequence[str], table: Table
) -> tuple[list[int], dict[int, Any]]:
    """Return which column each parameter is for, and the values of the others, by their places.

    Those are of defaults that are expressions.
    """
    order: list[int] = []
    constants: dict[int, Any] = {}
    known: dict[str, Any] = {}
    for place, name in enumerate(_names(compiled)):
        if name in names:
            order.append(names.index(name))
        else:
            known = known or _values_of_defaults(compiled, table, names)
            convert = compiled._bind_processors.get(name)  # noqa: SLF001 - there is no public way
            constants[place] = known[name] if convert is None else convert(known[name])
    return order, constants


def _values_of_defaults(compiled: Any, table: Table, names: Sequence[str]) -> dict[str, Any]:
    try:
        if not compiled.post_compile_params and not compiled.literal_execute_params:
            known: dict[str, Any] = compiled.construct_params(dict.fromkeys(names))
            return known
        told = "a list"
    except InvalidRequestError as error:
        told = str(error).splitlines()[0]
    raise RowError(
        f"table {table.fullname} has a default that is an expression with a parameter of its own "
        f"({told}): use execute(insert(table), row)"
    )


def taker(keys: Sequence[str]) -> Callable[[Mapping[str, Any]], tuple[Any, ...]]:
    """Return what takes the values of these keys from a row."""
    if len(keys) > 1:
        return operator.itemgetter(*keys)
    return lambda row: tuple([row[key] for key in keys])


def _maker(
    compiled: Any, constants: Mapping[int, Any], *, is_one: bool
) -> Callable[[Sequence[tuple[Any, ...]]], Any]:
    """Return what makes a statement's parameters of the values of rows.

    :param constants: the same for each row, by their places among the parameters
    """
    if is_one:
        return lambda rows: _with_constants(_by_column(rows), constants)
    if compiled.positional:
        return lambda rows: [_with_constants(row, constants) for row in rows]
    names = _names(compiled)
    return lambda rows: [
        dict(zip(names, _with_constants(row, constants), strict=True)) for row in rows
    ]


def _with_constants(values: tuple[Any, ...], constants: Mapping[int, Any]) -> tuple[Any, ...]:
    if not constants:
        return values
    full = list(values)
    for place, value in constants.items():  # from the first on
        full.insert(place, value)
    return tuple(full)


def _by_column(rows: Sequence[tuple[Any, ...]]) -> tuple[list[Any], ...]:
    return tuple(map(list, zip(*rows, strict=True)))
