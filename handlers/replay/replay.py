"""Replays a statement through both services, and reconciles the ledger with the bank.

The statements service runs in this process, the ledger in its own. A row is done when its entry
is in the ledger's database, or when it is dead-lettered; what the services do meanwhile, how
often they are killed, and what is delivered twice makes no difference to the figures.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import make_url

from handlers import statements
from handlers.accounting.database import shown
from handlers.accounting.errors import LedgerError
from handlers.accounting.reading import Ledger, open_ledger
from handlers.bank_format import RowError, parse_row
from handlers.events import Origin
from handlers.ledger import POST_QUEUE
from handlers.replay.reconcile import LastDays, reconcile
from handlers.replay.report import Rejection, Report
from handlers.replay.statement_file import Row, Statement
from handlers.running.processes import MqkitProcess
from handlers.running.progress import Progress
from handlers.running.queues import POLL, QueueLook, dead_letters, look
from mqkit import BrokerUrl, CallNext, HandlerCall, Outgoing, Reject, Runtime

STATEMENTS_GRACE = 5.0
"""Seconds that the statements service gets to finish its rows at the end."""

FOREIGN_CONSUMER_WAIT = 5.0
"""Seconds in which a consumer that an earlier run left behind must be gone."""

LET_GO_WAIT = 15.0
"""Seconds in which the broker must have taken back what a ledger held that has ended."""

QUIET = 2.0
"""Seconds in which nothing may move before the ledger is stopped. What it then has fetched and not
posted goes back to the queue, and the ledger has to be started once more."""

PUBLISHED = "published"
POSTED = "in the ledger"
"""What progress is shown of."""

PROCESSES = 2
"""One posts; the other stands by, and goes on at once where the first one dies."""

CONNECT_DEADLINE = 15.0
"""Seconds for the first connection to the broker."""


class ReplayError(Exception):
    """The replay cannot go on; the message says what is missing."""


@dataclass(slots=True)
class _Rows:
    """The statement's entries, and which of its rows the statements service is done with."""

    total: int = 0
    ids: set[int] = field(default_factory=set)
    last_days: LastDays = field(default_factory=LastDays)
    published: set[int] = field(default_factory=set)
    """Lines whose entry the statements service has published."""
    rejected: dict[int, str] = field(default_factory=dict)
    """Line to the reason that the statements service gave."""

    @classmethod
    def of(cls, statement: Statement) -> _Rows:
        rows = cls()
        for row in statement.read():
            rows.total += 1
            with contextlib.suppress(RowError):
                entry = parse_row(row.data)
                rows.ids.add(entry.transaction_id)
                rows.last_days.add(entry)
        return rows

    @property
    def read(self) -> int:
        """Count the rows that the statements service is done with."""
        return len(self.published) + len(self.rejected)


class Replay:
    """One replay of a statement.

    :param database: the URL of the ledger's database
    :param timeout: seconds without any progress after which it is given up
    """

    def __init__(
        self,
        statement: Statement,
        url: str,
        database: str,
        *,
        timeout: float,
        progress: Progress,
    ) -> None:
        self._statement = statement
        self._url = BrokerUrl.parse(url)
        self._database = database
        self._timeout = timeout
        self._progress = progress
        self._rows = _Rows()
        self._process = ledger_process(url, database, log_of(database), progress.tell)

    async def run(self) -> Report:
        """Replay, reconcile, and report.

        :raises ReplayError: no progress for too long, or somebody else consumes the queues
        :raises ProcessError: the ledger does not stay alive
        :raises LedgerError: the database cannot be used
        :raises mqkit.errors.MqkitError: the broker cannot be used
        """
        self._rows = await asyncio.to_thread(_Rows.of, self._statement)
        runtime = Runtime(
            statements.service,
            self._url,
            grace=STATEMENTS_GRACE,
            middleware=[self._note_row],
            connect_deadline=CONNECT_DEADLINE,
        )
        async with open_ledger(self._database) as ledger, runtime:
            before = await ledger.contents(self._rows.ids)
            self._tell_of_before(len(before))
            dead_before = await self._prepare(runtime)
            try:
                await self._process.start()
                seconds = await self._until_done(runtime, ledger)
            finally:
                await self._process.stop()
            dead = await dead_letters(runtime, POST_QUEUE) - dead_before
            return await self._report(ledger, runtime.server, len(before), dead, seconds)

    def _tell_of_before(self, posted: int) -> None:
        """Say what an earlier run has posted, or this one would look as if it did all of it."""
        if posted:
            self._progress.show({PUBLISHED: 0, POSTED: posted})
            self._progress.tell(
                f"{posted:,} of {self._rows.total:,} rows were posted before; they are sent again, "
                f"and must change nothing. To begin anew, {_to_begin_anew(self._database)}"
            )

    async def _note_row(self, call: HandlerCall, call_next: CallNext) -> Any:
        """Note which rows are done; a middleware of the statements service."""
        line = self._statement.line_of(call.delivery.message_id)
        try:
            result = await call_next(call)
        except Reject as reject:
            if line is not None:
                self._rows.rejected[line] = reject.reason.removeprefix(f"line {line}: ")
            raise
        if line is not None:
            self._rows.published.add(line)
        return result

    async def _prepare(self, runtime: Runtime) -> int:
        """Check that no other ledger runs; returns how many dead letters there are already."""
        if not await self._wait_for_queue(
            runtime, lambda queue: not queue.consumers, FOREIGN_CONSUMER_WAIT
        ):
            raise ReplayError(
                f"{POST_QUEUE.name} is consumed already: another ledger would post into its own "
                "database; stop it first"
            )
        for queue in (statements.ROWS_QUEUE, POST_QUEUE):
            if waiting := (await look(runtime, queue)).messages:
                self._progress.tell(
                    f"{queue.name} holds {waiting} messages of an earlier run; they go first"
                )
        return await dead_letters(runtime, POST_QUEUE)

    async def _until_done(self, runtime: Runtime, ledger: Ledger) -> float:
        """Publish the rows, wait until all are done, and return the seconds that it took."""
        if not await self._wait_for_queue(runtime, lambda queue: queue.is_consumed, self._timeout):
            raise ReplayError(f"the ledger does not consume {POST_QUEUE.name}")
        started = time.monotonic()
        publishing = asyncio.create_task(self._publish_rows(runtime))
        try:
            finished = await self._wait_until_posted(runtime, ledger, publishing)
        finally:
            publishing.cancel()
            await asyncio.gather(publishing, return_exceptions=True)
        while True:
            # What it holds unacknowledged no count shows: it must drain first, and the broker
            # must have seen that it is gone, which gives the rest back.
            await self._process.stop()
            if not await self._wait_for_queue(
                runtime, lambda queue: not queue.consumers, LET_GO_WAIT
            ):
                raise ReplayError(f"{POST_QUEUE.name} is still consumed, though its ledger ended")
            if not (await look(runtime, POST_QUEUE)).messages:
                return finished - started
            await self._process.start()
            finished = await self._wait_until_posted(runtime, ledger, publishing)

    async def _wait_for_queue(
        self, runtime: Runtime, wanted: Callable[[QueueLook], bool], seconds: float
    ) -> bool:
        """Wait until the ledger's queue is as wanted; returns False if it is not after so long."""
        deadline = time.monotonic() + seconds
        while not wanted(await look(runtime, POST_QUEUE)):
            self._process.check()
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(POLL)
        return True

    async def _publish_rows(self, runtime: Runtime) -> None:
        """Publish all rows, in order; also where a connection is lost, by their first copies."""
        async for result in runtime.publisher.publish_many(
            map(self._message, self._statement.read())
        ):
            if result.error is not None:
                raise ReplayError(f"a row could not be published: {result.error}") from result.error

    def _message(self, row: Row) -> Outgoing:
        return Outgoing(
            statements.STATEMENTS,
            statements.ROW_KEY,
            row.data,
            message_id=self._statement.message_id(row.line),
            headers=Origin(self._statement.name, row.line).headers(),
        )

    async def _wait_until_posted(
        self, runtime: Runtime, ledger: Ledger, publishing: asyncio.Task[None]
    ) -> float:
        """Wait until every row is done and the ledger's queue is empty; returns when it was."""
        rows, missing, mark = self._rows, set(self._rows.ids), 0
        trouble = ""
        last_state: tuple[object, ...] = ()
        moved = time.monotonic()
        while True:
            waiting = (await look(runtime, POST_QUEUE)).messages
            if publishing.done():
                publishing.result()
            try:
                mark, new = await ledger.posted_after(mark)
                missing.difference_update(new)
                if rows.read == rows.total and not waiting and not new and missing:
                    missing.difference_update(await ledger.contents(missing))
                trouble = ""
            except LedgerError as error:  # it may pass, as it does for the ledger
                trouble = f"; {error}"
            now = time.monotonic()
            self._process.check()
            posted = len(rows.ids) - len(missing)
            self._progress.show({PUBLISHED: rows.read, POSTED: posted})
            state = (rows.read, posted, waiting)
            if state != last_state:
                last_state, moved = state, now
            elif publishing.done() and rows.read == rows.total and not missing and not waiting:
                if now - moved >= QUIET:
                    return moved
            elif now - moved > self._timeout:
                raise ReplayError(
                    f"nothing moved for {self._timeout:g} s: {rows.total - rows.read} rows are not "
                    f"read, {len(missing)} entries are not posted, {waiting} wait in "
                    f"{POST_QUEUE.name}{trouble}"
                )
            await asyncio.sleep(POLL)

    async def _report(
        self, ledger: Ledger, broker: str, before: int, dead: int, seconds: float
    ) -> Report:
        rows = self._rows
        posted = len(await ledger.contents(rows.ids)) - before
        rejections = [Rejection(line, reason) for line, reason in sorted(rows.rejected.items())]
        rejections += [
            Rejection(0, f"the ledger refused it; see {POST_QUEUE.dead_queue}") for _ in range(dead)
        ]
        balances = await ledger.balances(rows.last_days.days())
        totals = await ledger.totals()
        return Report(
            rows=rows.total,
            published=len(rows.published),
            posted=posted,
            already_posted=len(rows.published) - posted - dead,
            rejections=tuple(rejections),
            reconciliation=reconcile(rows.last_days, balances),
            balanced=totals.balanced,
            seconds=seconds,
            broker=broker,
        )


def ledger_process(url: str, database: str, log: Path, tell: Callable[[str], None]) -> MqkitProcess:
    """Make the ledger's supervisor, which starts again what dies."""
    run = ("run", "handlers.ledger:service", "--processes", str(PROCESSES))
    environment = {"MQKIT_URL": url, "LEDGER_DATABASE": database}
    return MqkitProcess("the ledger", *run, environment=environment, log=log, tell=tell)


def log_of(database: str) -> Path:
    """Return the file for the ledger's log: beside an SQLite file, or else in this directory."""
    url = make_url(database)
    path = Path(url.database or "ledger")
    if url.get_backend_name() != "sqlite":
        path = Path(path.name)
    return path.with_name(f"{path.name}.log")


def _to_begin_anew(database: str) -> str:
    if make_url(database).get_backend_name() == "sqlite":
        return f"remove {shown(database)}"
    return f"give another database than {shown(database)}"
