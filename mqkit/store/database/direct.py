"""Runs handlers' statements of SQLAlchemy's on the driver's connection, where nobody can tell.

To send an INSERT takes longer in SQLAlchemy's layers than all else that it costs this process. So
a statement that is executed again and again (the same object, with parameters of the same names) is
compiled once by SQLAlchemy, and sent by the driver. That is done only for an INSERT, UPDATE or
DELETE that returns no rows and asks nothing more of SQLAlchemy; and not where somebody listens to
what the engine executes, or logs it, or a savepoint of SQLAlchemy's is open. On PostgreSQL a plain
INSERT of a list of rows is one statement that takes its columns as arrays, where SQLAlchemy would
have the server execute one for each row. All else goes SQLAlchemy's way.

It rests on names of SQLAlchemy's (2.1) that are not public: what its results ask their context for,
`_propagate_attrs` of its statements, and two of its adapter of asyncpg (`AsyncpgSender`). A test
compares results and errors with SQLAlchemy's own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Protocol, Self
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Executable, Table, insert
from sqlalchemy.engine import CursorResult
from sqlalchemy.engine.cursor import NoCursorDMLFetchStrategy
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.dml import Delete, Insert, Update

from mqkit.errors import StoreError
from mqkit.store.database.row_plans import RowPlan, RowPlans
from mqkit.store.database.watch import Watch

_EVENTS = ("before_execute", "after_execute", "before_cursor_execute", "after_cursor_execute")

_NO_ROWS = NoCursorDMLFetchStrategy()

_logger = logging.getLogger("sqlalchemy.engine.Engine")


_MANY = ""
"""Stands before the names of rows that are given as a list; no column is called so."""

_NOT_COUNTED = (-1, None)
"""What the driver says of many rows, and SQLAlchemy after it."""

Told = tuple[int, int | None]
"""What the database says of a statement: the rows that it concerned, and the last one's id."""


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

    def translated(self, error: Exception) -> Exception:
        """Return what SQLAlchemy's adapter of the driver makes of an error."""
        ...


class Plan:
    """A statement as it is sent, and what is done with its parameters."""

    __slots__ = ("_compiled", "_converters", "_positions", "statement")

    def __init__(self, compiled: SQLCompiler) -> None:
        self.statement = str(compiled)
        self._compiled = compiled
        self._positions = compiled.positiontup or []
        kinds = {name: bind.type for bind, name in compiled.bind_names.items()}
        processors = (
            kinds[name].dialect_impl(compiled.dialect).bind_processor(compiled.dialect)
            for name in self._positions
        )
        self._converters: list[Callable[[Any], Any] | None] = list(processors)

    def values(self, parameters: Mapping[str, Any] | None) -> tuple[Mapping[str, Any], list[Any]]:
        """Return all parameters, by their names, and in order as the driver takes them."""
        given = self._compiled.construct_params(parameters)
        sent = [
            given[name] if convert is None else convert(given[name])
            for name, convert in zip(self._positions, self._converters, strict=True)
        ]
        return given, sent

    def result(
        self, connection: AsyncConnection, given: Mapping[str, Any], told: Told
    ) -> CursorResult[Any]:
        """Make the result that SQLAlchemy would make, from what the database said."""
        return _Executed(connection, _Context(self._compiled, given, told))


_Plans = dict[tuple[str, ...], "Plan | ManyPlan | None"]


class _Context:
    """What a result asks its execution for, as far as one without rows has it."""

    __slots__ = ("compiled", "given", "lastrowid", "rowcount")

    executemany = False
    returned_default_rows = None
    _is_explicit_returning = False
    _has_rowcount = True

    def __init__(self, compiled: SQLCompiler, given: Mapping[str, Any], told: Told) -> None:
        self.compiled: Any = compiled
        self.given = given
        self.rowcount, self.lastrowid = told

    @property
    def dialect(self) -> Any:
        return self.compiled.dialect

    @property
    def compiled_parameters(self) -> list[Mapping[str, Any]]:
        return [self.given]

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
        return [getter(self.lastrowid, self.given)]

    def get_lastrowid(self) -> int | None:
        return self.lastrowid

    def lastrow_has_defaults(self) -> bool:
        return bool(self.compiled.postfetch)


class _ManyContext(_Context):
    """The same of an INSERT of many rows."""

    __slots__ = ()

    executemany = True

    @property
    def compiled_parameters(self) -> list[Mapping[str, Any]]:
        return list(self.given)  # type: ignore[arg-type]

    @property
    def inserted_primary_key_rows(self) -> list[Any]:
        getter = self.compiled._inserted_primary_key_from_lastrowid_getter  # noqa: SLF001
        return [getter(None, row) for row in self.given]


class _Executed(CursorResult[Any]):
    """The result of a statement that returns no rows."""

    def __init__(self, connection: AsyncConnection, context: Any) -> None:
        self.context = context
        self.dialect = context.dialect
        self.cursor: Any = None
        self.cursor_strategy = _NO_ROWS
        self.connection = connection.sync_connection  # type: ignore[assignment]
        self._echo = False
        self._metadata = self._no_result_metadata
        self._soft_closed = True


class ManyPlan:
    """An INSERT of many rows as it is sent: its columns as arrays, in one statement."""

    __slots__ = ("_compiled", "_row", "statement")

    def __init__(self, row: RowPlan, compiled: SQLCompiler) -> None:
        """Plan for rows of these columns.

        :param compiled: what SQLAlchemy would run for each of them
        """
        self.statement = row.statement
        self._row = row
        self._compiled = compiled

    def values(self, parameters: Any) -> tuple[Any, Any]:
        """Return all parameters as they were given, and as the driver takes them."""
        values = self._row.values
        return parameters, self._row.parameters([values(row) for row in parameters])

    def result(self, connection: AsyncConnection, given: Any, told: Told) -> CursorResult[Any]:  # noqa: ARG002
        """Make the result that SQLAlchemy would make."""
        return _Executed(connection, _ManyContext(self._compiled, given, _NOT_COUNTED))


class DirectStatements:
    """Knows the statements of an engine that can be sent without SQLAlchemy's layers."""

    def __init__(self, engine: AsyncEngine) -> None:
        """Know none yet, and take who listens to the engine now for one of mqkit's own."""
        self._engine = engine.sync_engine
        self._plans: WeakKeyDictionary[Any, _Plans] = WeakKeyDictionary()
        self._rows = RowPlans(engine.dialect)
        self._own_listeners = self._listeners()

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
    ) -> Plan | ManyPlan | None:
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

    def _find_many(self, statement: Any, plans: _Plans, parameters: Any) -> ManyPlan | None:
        """Return how many rows are sent in one statement; None: one by one, by SQLAlchemy."""
        if parameters.__class__ is not list or len(parameters) < 2:  # noqa: PLR2004 - one is none
            return None
        first = parameters[0]
        if first.__class__ is not dict or not isinstance(statement, Insert):
            return None
        names = (_MANY, *first)
        try:
            known = plans[names]
        except KeyError:
            known = plans[names] = self._planned_for_many(statement, first)
        assert known is None or isinstance(known, ManyPlan)
        return known

    def _planned_for_many(self, statement: Any, row: Mapping[str, Any]) -> ManyPlan | None:
        try:
            plan = self._rows.find(statement.table, row)
        except StoreError:
            return None  # SQLAlchemy says it in its own way
        if plan.makes_values or not plan.is_one:
            return None
        dialect, keys = self._engine.dialect, sorted(row)
        mine, plain = (
            each.compile(dialect=dialect, column_keys=keys, for_executemany=True)
            for each in (statement, insert(statement.table))
        )
        # Else it asks for more than its rows: another conflict than none, say.
        return ManyPlan(plan, mine) if str(mine) == str(plain) else None

    def _planned(self, statement: Any, names: tuple[str, ...]) -> Plan | None:
        compiled = statement.compile(dialect=self._engine.dialect, column_keys=sorted(names))
        asks_more = (
            compiled.effective_returning
            or compiled.prefetch
            or compiled.post_compile_params
            or compiled.literal_execute_params
        )
        return None if asks_more else Plan(compiled)


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
    plan: Plan | ManyPlan,
    statement: Executable,
    parameters: Any,
) -> CursorResult[Any]:
    """Send a statement, and return its result; its errors are those of SQLAlchemy.

    :raises sqlalchemy.exc.DBAPIError: the database refused it
    """
    try:
        given, values = plan.values(parameters)
    except Exception:  # noqa: BLE001 - SQLAlchemy meets it, too, and says it in its own way
        return await connection.execute(statement, parameters)
    told = await send(connection, watch, plan.statement, given, values)
    return plan.result(connection, given, told)


async def send(
    connection: AsyncConnection, watch: Watch, statement: str, given: Any, values: Any
) -> Told:
    """Send a statement with values as the driver takes them.

    :param given: the values as its error has them
    :raises sqlalchemy.exc.DBAPIError: the database refused it
    """
    sender: Sender = watch.sender
    try:
        return await sender.send(statement, values)
    except Exception as error:
        translated = sender.translated(error)
        dialect: Any = connection.dialect
        if not isinstance(translated, dialect.loaded_dbapi.Error):
            watch.saw(translated, lost=sender.is_closed)
            raise
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
