"""Keeps the rows that are added in a transaction until they are written, many at a time.

They are written right before the commit, or before the next statement of the transaction, so that
each statement sees what was added before it. What a savepoint takes back takes its rows with it.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.exc import NoReferenceError
from sqlalchemy.ext.asyncio import AsyncConnection

from mqkit.errors import StoreError
from mqkit.store.database.direct import goes_on, send
from mqkit.store.database.row_plans import RowPlan, RowPlans, check_table

_Row = tuple[object, RowPlan, tuple[Any, ...]]
"""Whose it is, its plan, its values."""

_Statement = tuple[RowPlan, list[tuple[Any, ...]]]
"""A plan, and the values of the rows that are written by it together."""

_plan = itemgetter(1)

_SAVEPOINT, _RELEASE, _ROLLBACK = "SAVEPOINT", "RELEASE", "ROLLBACK"

_INITIALS = frozenset("SsRr \n\t")
"""What a statement may begin with that has to do with savepoints."""


class AddedRows:
    """Rows of one transaction that are not written yet, and what became of writing them."""

    __slots__ = ("_depth", "_failed_at", "_plans", "failure", "waiting", "were_written")

    def __init__(self, plans: RowPlans) -> None:
        """Have none yet."""
        self._plans = plans
        self.waiting: list[_Row] = []
        """In the order of their coming."""
        self.failure: BaseException | None = None
        """Why some of them were not written; no commit may follow."""
        self.were_written = False
        """Whether some were, since the turn of the latest handler began."""
        self._depth = self._failed_at = 0

    def begin_turn(self) -> None:
        """Note that a handler's turn begins; it is within no savepoint of the handler's."""
        self.were_written = False
        self._depth = 0

    def add(self, owner: object, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
        """Keep rows until they are written.

        :raises RowError: one of them is none of this table; none is kept then
        """
        if not rows:  # an object of the ORM, say, would be lost in silence
            check_table(table)
        plans = [(self._plans.find(table, row), row) for row in rows]
        self.waiting += [(owner, plan, plan.values(row)) for plan, row in plans]

    def forget(self, owner: object) -> None:
        """Forget the rows of one handler's run that are not written yet."""
        if self.waiting:
            self.waiting = [each for each in self.waiting if each[0] is not owner]

    def check(self) -> None:
        """Refuse the commit where some were not written, and no savepoint took that back.

        :raises Exception: why they were not
        """
        if self.failure is not None:
            raise self.failure

    def undo(self) -> None:
        """Note that all was taken back that was done since the turn began."""
        self.waiting.clear()
        self.failure = None

    def before(self, statement: str, connection: Connection, watch: Any) -> None:
        """Write what waits before a statement that is about to be run on the connection.

        :raises sqlalchemy.exc.DBAPIError: the database refused it
        """
        word = _word_of_savepoints(statement)
        if word == _ROLLBACK:
            self._roll_back()
            return
        if self.waiting and word != _RELEASE:
            self.write(connection, watch)
        self._note(word)

    async def write_on(self, connection: AsyncConnection, watch: Any) -> None:
        """Do what `write` does, where SQLAlchemy does not run.

        :raises sqlalchemy.exc.DBAPIError: the database refused it
        """
        if not self.waiting:
            return
        direct = watch.direct
        if direct is None:
            await connection.run_sync(self.write, watch)
            return
        with self._writing(watch) as statements:
            for plan, rows in statements:
                parameters = plan.parameters(rows)
                if (plan.is_one or direct.sends_each) and goes_on(
                    connection.sync_connection, watch
                ):
                    each = not plan.is_one
                    await send(connection, watch, plan.statement, parameters, for_each=each)
                else:
                    await connection.exec_driver_sql(plan.statement, parameters)

    async def before_on(
        self, connection: AsyncConnection, statement: str, watch: Any, *, writes: bool = True
    ) -> None:
        """Do what `before` does, for a statement that goes past SQLAlchemy.

        :param writes: False: SQLAlchemy runs the statement, and has seen to what came before it
        """
        word = _word_of_savepoints(statement) if writes else ""
        if word == _ROLLBACK:
            self._roll_back()
            return
        if writes and word != _RELEASE:
            await self.write_on(connection, watch)
        self._note(word)

    def _roll_back(self) -> None:
        # What waits was added since it began: what was there before was written.
        self.waiting.clear()
        self._depth = max(0, self._depth - 1)
        if self._failed_at > self._depth:
            self.failure = None

    def _note(self, word: str) -> None:
        if word == _SAVEPOINT:
            self._depth += 1
        elif word == _RELEASE:
            self._depth = max(0, self._depth - 1)

    def write(self, connection: Connection, watch: Any) -> None:
        """Write what waits, as a statement of the handler's.

        :raises sqlalchemy.exc.DBAPIError: the database refused it
        """
        with self._writing(watch) as statements:
            for plan, rows in statements:
                connection.exec_driver_sql(plan.statement, plan.parameters(rows))

    @contextlib.contextmanager
    def _writing(self, watch: Any) -> Iterator[Iterator[_Statement]]:
        """Give what is to be run, as statements of the handler's."""
        waiting, self.waiting = self.waiting, []
        before, watch.of_handler = watch.of_handler, True
        self.were_written = self.were_written or bool(waiting)
        try:
            yield _in_order(waiting)
        except BaseException as error:
            self._fail(error)
            raise
        finally:
            watch.of_handler = before

    def _fail(self, error: BaseException) -> None:
        if not isinstance(error, Exception):
            error = StoreError(
                "rows that were added were being written when the handler was cancelled: nothing "
                "of its transaction is committed"
            )
        if self.failure is None:
            self.failure, self._failed_at = error, self._depth
        self._failed_at = min(self._failed_at, self._depth)


def _word_of_savepoints(statement: str) -> str:
    if statement[:1] not in _INITIALS:
        return ""
    words = statement.split(None, 1)
    return words[0].upper() if words else ""


def _in_order(waiting: Sequence[_Row]) -> Iterator[_Statement]:
    """Return rows that one statement writes, with their plan: of each table in their order.

    What others refer to comes first, and else the table that came first.
    """
    of_tables: dict[Table, list[_Row]] = {}
    for row in waiting:
        of_tables.setdefault(row[1].table, []).append(row)
    for table in _parents_first(of_tables):
        for plan, rows in itertools.groupby(of_tables[table], key=_plan):
            yield plan, [values for _, _, values in rows]


def _parents_first(tables: Mapping[Table, Any]) -> list[Table]:
    if len(tables) == 1:
        return list(tables)
    ordered: dict[Table, None] = {}
    seen: set[Table] = set()

    def visit(table: Table) -> None:
        if table in seen:
            return
        seen.add(table)
        for parent in _parents(table):
            if parent in tables:
                visit(parent)
        ordered[table] = None

    for table in tables:
        visit(table)
    return list(ordered)


def _parents(table: Table) -> Iterator[Table]:
    for constraint in table.foreign_key_constraints:
        try:
            yield constraint.referred_table
        except NoReferenceError:  # of another MetaData: nothing is known of it
            continue
