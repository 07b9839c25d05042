"""Runs handlers' statements of SQLAlchemy's on the driver's connection, where nobody can tell.

To send an INSERT takes longer in SQLAlchemy's layers than all else that it costs this process. So
a statement that is executed again and again (the same object, with parameters of the same names) is
compiled once by SQLAlchemy, and sent by the driver. That is done only for an INSERT, UPDATE or
DELETE that returns no rows and asks nothing more of SQLAlchemy; and not where somebody listens to
what the engine executes, or logs it, or a savepoint of SQLAlchemy's is open. A list of rows is one
job of SQLite's thread. On PostgreSQL a plain INSERT of one is one statement that takes its columns
as arrays, where SQLAlchemy would have the server execute one for each row. All else goes
SQLAlchemy's way.

It rests on names of SQLAlchemy's (2.1) that are not public: what its results ask their context for,
`_propagate_attrs` of its statements, and two of its adapter of asyncpg (`AsyncpgSender`). A test
compares results and errors with SQLAlchemy's own.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn, Protocol, Self
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Executable, Table, insert
from sqlalchemy.engine import CursorResult
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.dml import Delete, Insert, Update

from mqkit.errors import StoreError
from mqkit.store.database.row_plans import RowPlans
from mqkit.store.database.statement_plans import EachPlan, ManyPlan, Plan, Told, keys_of
from mqkit.store.database.watch import Watch

_EVENTS = ("before_execute", "after_execute", "before_cursor_execute", "after_cursor_execute")

_logger = logging.getLogger("sqlalchemy.engine.Engine")


_MANY = ""
"""Stands before the names of rows that are given as a list; no column is called so."""


class Sender(Protocol):
    """Sends statements on the driver's connection of one transaction."""

    @property
    def goes_on(self) -> bool:
        """Whether the connection is in the transaction, as far as the driver knows."""
        ...

    @property
    def is_closed(self) -> bool:
        """Whether the connection is lost."""
        ...

    async def send(self, statement: str, values: list[Any]) -> Told:
        """Run a statement that returns no rows; raises the driver's own errors."""
        ...

    async def send_each(self, statement: str, rows: Sequence[Sequence[Any]]) -> Told:
        """Run it for each of these rows, where `DirectStatements.sends_each` says so."""
        ...

    def translated(self, error: Exception) -> Exception:
        """Return what SQLAlchemy's adapter of the driver makes of an error."""
        ...


_OfMany = EachPlan | ManyPlan

_Plans = dict[tuple[str, ...], Plan | _OfMany | None]


class DirectStatements:
    """Knows the statements of an engine that can be sent without SQLAlchemy's layers."""

    def __init__(self, engine: AsyncEngine) -> None:
        """Know none yet, and take who listens to the engine now for one of mqkit's own."""
        self._engine = engine.sync_engine
        self._plans: WeakKeyDictionary[Any, _Plans] = WeakKeyDictionary()
        self._rows = RowPlans(engine.dialect)
        self._own_listeners = self._listeners()
        self.sends_each = engine.dialect.name == "sqlite"
        """Whether the driver runs a statement for many rows in one go; asyncpg's way to do that is
        SQLAlchemy's, too."""

    def _listeners(self) -> int:
        dispatch: Any = self._engine.dispatch
        return sum(len(getattr(dispatch, name)) for name in _EVENTS)

    def unless_observed(self) -> Self | None:
        """Return this, unless somebody would miss what SQLAlchemy tells of statements."""
        if self._listeners() != self._own_listeners or _logger.isEnabledFor(logging.INFO):
            return None
        return self

    def find(
        self,
        connection: AsyncConnection,
        watch: Watch,
        statement: Executable,
        parameters: Any,
    ) -> Plan | _OfMany | None:
        """Return how a statement is sent; None is SQLAlchemy's way.

        A statement that is executed for the first time may be the only one of its kind, and to
        compile it here would take longer than what is spared.
        """
        try:
            plans = self._plans[statement]
        except KeyError:
            if _is_simple(statement):
                self._plans[statement] = {}
            return None
        except TypeError:  # it is no statement, which SQLAlchemy says itself
            return None
        sync = connection.sync_connection
        # Within a savepoint of SQLAlchemy's it knows what an error undoes.
        if not goes_on(sync, watch) or (sync and sync.get_nested_transaction()):
            return None
        if parameters is not None and parameters.__class__ is not dict:
            return self._find_many(statement, plans, parameters)
        names = tuple(parameters) if parameters else ()
        try:
            return plans[names]
        except KeyError:
            plan = plans[names] = self._planned(statement, names)
            return plan

    def _find_many(self, statement: Any, plans: _Plans, parameters: Any) -> _OfMany | None:
        """Return how many rows are sent in one go; None: SQLAlchemy's way."""
        if parameters.__class__ is not list or len(parameters) < 2:  # noqa: PLR2004 - one is none
            return None
        first = parameters[0]
        if first.__class__ is not dict:
            return None
        names = (_MANY, *first)
        try:
            known = plans[names]
        except KeyError:
            plan_ = self._planned_for_each if self.sends_each else self._planned_for_many
            known = plans[names] = plan_(statement, first)
        assert not isinstance(known, Plan)
        return known

    def _planned_for_each(self, statement: Any, row: Mapping[str, Any]) -> EachPlan | None:
        compiled = self._compiled(statement, row, many=True)
        if compiled is None or (keys := keys_of(compiled, row)) is None:
            return None
        return EachPlan(compiled, keys)

    def _planned_for_many(self, statement: Any, row: Mapping[str, Any]) -> ManyPlan | None:
        if not isinstance(statement, Insert):
            return None
        table: Any = statement.table
        try:
            plan = self._rows.find(table, row)
        except StoreError:
            return None  # SQLAlchemy says it in its own way
        if plan.makes_values or not plan.is_one:
            return None
        dialect, keys = self._engine.dialect, sorted(row)
        mine, plain = (
            each.compile(dialect=dialect, column_keys=keys, for_executemany=True)
            for each in (statement, insert(table))
        )
        # Else it asks for more than its rows: another conflict than none, say.
        return ManyPlan(plan, mine) if str(mine) == str(plain) else None

    def _planned(self, statement: Any, names: tuple[str, ...]) -> Plan | None:
        compiled = self._compiled(statement, names)
        return None if compiled is None else Plan(compiled, names)

    def _compiled(
        self, statement: Any, names: Iterable[str], *, many: bool = False
    ) -> SQLCompiler | None:
        """Compile a statement as SQLAlchemy does; None: it asks for more than to be sent."""
        compiled: SQLCompiler = statement.compile(
            dialect=self._engine.dialect, column_keys=sorted(names), for_executemany=many
        )
        asks_more = (
            compiled.effective_returning
            or compiled.prefetch
            or compiled.post_compile_params
            or compiled.literal_execute_params
        )
        return None if asks_more else compiled


def _is_simple(statement: Any) -> bool:
    """Tell whether a statement is one that may return no rows, and has no wishes of its own."""
    return (
        isinstance(statement, Insert | Update | Delete)
        and isinstance(statement.table, Table)
        and not statement.get_execution_options()
        and not statement._propagate_attrs  # noqa: SLF001 - what the ORM leaves with its own
    )


def goes_on(connection: Connection | None, watch: Watch) -> bool:
    """Tell whether the transaction is as it began, and the driver is in it."""
    begun = watch.begun
    return (
        connection is not None
        and not connection.invalidated
        and begun.is_active
        and connection.get_transaction() is begun
        and not watch.ended
        and watch.sender is not None
        and watch.sender.goes_on
    )


async def execute(
    connection: AsyncConnection,
    watch: Watch,
    plan: Plan | _OfMany,
    statement: Executable,
    parameters: Any,
) -> CursorResult[Any]:
    """Send a statement, and return its result; its errors are those of SQLAlchemy.

    :raises sqlalchemy.exc.DBAPIError: the database refused it
    """
    try:
        values = plan.values(parameters)
    except Exception:  # noqa: BLE001 - SQLAlchemy meets it, too, and says it in its own way
        return await connection.execute(statement, parameters)
    sender: Sender = watch.sender
    run = sender.send_each if plan.for_each else sender.send
    try:
        told = await run(plan.statement, values)
    except Exception as error:  # noqa: BLE001 - raised again
        _raise_as_sqlalchemy(connection, watch, plan.statement, plan.given(parameters), error)
    return plan.result(connection, parameters, told)


async def send(
    connection: AsyncConnection,
    watch: Watch,
    statement: str,
    values: Any,
    *,
    for_each: bool = False,
) -> None:
    """Send a statement with values as the driver takes them.

    :param for_each: the values are many rows, and it is run for each of them
    :raises sqlalchemy.exc.DBAPIError: the database refused it
    """
    sender: Sender = watch.sender
    run = sender.send_each if for_each else sender.send
    try:
        await run(statement, values)
    except Exception as error:  # noqa: BLE001 - raised again
        _raise_as_sqlalchemy(connection, watch, statement, None, error)


def _raise_as_sqlalchemy(
    connection: AsyncConnection, watch: Watch, statement: str, given: Any, error: Exception
) -> NoReturn:
    """Note a statement's error in its `Watch`, and raise what SQLAlchemy makes of it.

    :param given: the values as the error has them
    """
    sender: Sender = watch.sender
    translated = sender.translated(error)
    dialect: Any = connection.dialect
    if not isinstance(translated, dialect.loaded_dbapi.Error):
        watch.saw(translated, lost=sender.is_closed)
        raise error
    raised = DBAPIError.instance(
        statement,
        given,
        translated,
        dialect.loaded_dbapi.Error,
        hide_parameters=True,
        connection_invalidated=sender.is_closed,
        dialect=dialect,
    )
    watch.saw(raised, lost=sender.is_closed)
    raise raised from translated
