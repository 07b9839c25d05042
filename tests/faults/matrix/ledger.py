"""The ledger of a row: its database, the orders that are sent to it, and the audit of all."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from decimal import Decimal
from typing import Any, Literal

from sqlalchemy import func, insert, select, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from mqkit import Publisher
from mqkit.broker.delays import PREFIX as DELAYS
from mqkit.store import metadata as store_metadata
from mqkit.store.schema import outbox
from tests.faults.ledger import PLACES, Event, account, effect, metadata, posting
from tests.faults.matrix.row import Bench
from tests.faults.store_services import EVENTS, QUEUE
from tests.postgres import PostgresServer, find_postgres
from tests.postgres import start as start_postgres
from tests.postgres.node import NodePostgres
from tests.support import Client, eventually

Kind = Literal["postgres", "sqlite"]

ACCOUNTS = 8
OPENING = Decimal("1000.00000001")
"""What each account has at first."""

SETTLED = (20.0, 120.0)
"""Seconds until all that was sent is posted and published, in the short and the long form."""

LOOKS, BETWEEN_LOOKS = 2, 0.25
"""Looks that find nothing waiting, and the seconds between two of them."""


class Ledger:
    """A database with the ledger in it, and what a row does with it."""

    def __init__(self, bench: Bench, url: str, server: PostgresServer | None) -> None:
        self.bench = bench
        self.url = url
        """Of the database, with a planted password."""
        self._server = server
        self.engine: AsyncEngine = create_async_engine(
            _driver_url(url), hide_parameters=True, pool_pre_ping=True
        )
        self.accounts = [f"account-{number}" for number in range(ACCOUNTS)]
        self.events: list[tuple[str, Event]] = []
        """What came to the queue of the events: message id and body, in order."""
        self._orders: dict[str, dict[str, Any]] = {}
        self.sent: set[str] = set()
        """The keys of the orders."""

    @property
    def server(self) -> PostgresServer:
        """The server that it is in."""
        assert self._server is not None, "SQLite has no server"
        return self._server

    async def create(self) -> None:
        """Make the tables, those of the store included, and the accounts."""
        async with self.engine.begin() as connection:
            await connection.run_sync(metadata.create_all)
            await connection.run_sync(store_metadata.create_all)
            await connection.execute(
                insert(account),
                [{"name": name, "balance": OPENING, "orders": 0} for name in self.accounts],
            )

    # --- orders ------------------------------------------------------------------------------

    async def send(
        self,
        publisher: Publisher,
        queue: str = QUEUE,
        *,
        key: str | None = None,
        between: Sequence[str] | None = None,
        **order: Any,
    ) -> str:
        """Publish an order, book it, and return its key.

        `between` are the accounts to choose two of; `order` are more of its fields.
        """
        debit, credit = random.sample(between or self.accounts, 2)
        amount = Decimal(random.randint(1, 10**10)).scaleb(-PLACES)
        key = key or self.bench.key()
        self.sent.add(key)
        # A key sent again is the same message: another body under it would be refused.
        fields = self._orders.setdefault(
            key, {"debit": debit, "credit": credit, "amount": str(amount), **order}
        )
        return await self.bench.publish(publisher, "", queue, key=key, fields=fields)

    async def send_many(
        self, publisher: Publisher, count: int, queue: str = QUEUE, **order: Any
    ) -> list[str]:
        """So many orders at once."""
        sending = (self.send(publisher, queue, **order) for _ in range(count))
        return list(await asyncio.gather(*sending))

    # --- what is in it -----------------------------------------------------------------------

    async def effects(self) -> Counter[str]:
        """How often each key had its effect."""
        found = await self.rows(select(effect.c.key, func.count()).group_by(effect.c.key))
        return Counter(dict(map(tuple, found)))

    async def posted(self) -> int:
        """How many effects there are."""
        ((count,),) = await self.rows(select(func.count()).select_from(effect))
        return int(count)

    async def waiting(self) -> int:
        """Messages in the outbox."""
        ((count,),) = await self.rows(select(func.count()).select_from(outbox))
        return int(count)

    async def applied(self, keys: Collection[str], within: float = 20.0) -> None:
        """Wait until they have had their effect."""

        async def done() -> bool:
            return set(keys) <= set(await self.effects())

        await eventually(done, within, f"the effect of {', '.join(sorted(keys)[:5])}")

    async def run(self, statement: str) -> None:
        """Run a statement as the ledger's user."""
        async with self.engine.begin() as connection:
            await connection.execute(text(statement))

    async def is_published(self) -> bool:
        """Whether the outbox is empty."""
        return await self.waiting() == 0

    async def rows(self, query: Any) -> list[Any]:
        async with self.engine.connect() as connection:
            return list((await connection.execute(query)).all())

    # --- the account -------------------------------------------------------------------------

    async def settled(self, within: float | None = None) -> None:
        """Wait until every confirmed order is posted, and the outbox is empty."""
        within = within or SETTLED[not self.bench.short]

        async def done() -> bool:
            confirmed = self.bench.journal.keys("confirmed") & self.sent
            # The outbox last: what is committed after a look into it would not be seen.
            return confirmed <= set(await self.effects()) and await self.is_published()

        try:
            await eventually(done, within, "the posting of all orders, and an empty outbox")
        except AssertionError as late:
            # The audit says what is missing.
            self.bench.problem(str(late))

    async def at_rest(self, client: Client) -> None:
        """Wait until none of its messages waits for another attempt.

        All orders may be posted by then: one that came a second time, and met a deadlock, waits for
        its next attempt all the same, and would come when nobody consumes any more.
        """
        names = await asyncio.to_thread(self.bench.room.queues)
        waiting = [name for name in names if name == QUEUE or name.startswith(DELAYS)]
        looks = 0

        async def empty() -> bool:
            nonlocal looks
            found = [await client.messages(name) for name in waiting]
            # Twice, as one that runs at the first look may have to wait after it.
            looks = 0 if any(found) else looks + 1
            await asyncio.sleep(BETWEEN_LOOKS)
            return looks == LOOKS

        await eventually(empty, SETTLED[not self.bench.short], "nothing that waits for an attempt")

    async def collect(self, client: Client, queue: str = EVENTS) -> None:
        """Take what has come to the queue of the events."""
        for incoming in await client.take_all(queue):
            event = Event.model_validate_json(incoming.body)
            self.events.append((incoming.properties.message_id or "", event))

    async def audit(self) -> None:
        """C, G, and the order of the accounts; L and X are the bench's, from the effects."""
        check = self.bench.check
        found = await self.rows(select(posting))
        effects = await self.effects()
        check(
            set(effects) == {row.key for row in found},
            "the postings and the effects are of different keys",
        )
        unknown = set(effects) - self.sent
        check(not unknown, f"{len(unknown)} postings are of orders that nobody gave")
        await self._audit_balances(found)
        self._audit_events({row.key: row.event for row in found})
        left = await self.waiting()
        check(not left, f"{left} messages are left in the outbox")
        together = self.bench.journal.together()
        check(not together, f"{len(together)} orders were handled twice at the same time")

    async def _audit_balances(self, postings: list[Any]) -> None:
        expected = dict.fromkeys(self.accounts, OPENING)
        for row in postings:
            expected[row.debit] -= row.amount
            expected[row.credit] += row.amount
        balances = {row.name: row.balance for row in await self.rows(select(account))}
        wrong = {name for name, balance in balances.items() if balance != expected[name]}
        self.bench.check(not wrong, f"the balances of {sorted(wrong)} are not what was posted")
        total = sum(balances.values(), Decimal())
        opening = OPENING * len(self.accounts)
        self.bench.check(total == opening, f"the balances sum up to {total}, not {opening}")

    def _audit_events(self, expected: dict[str, str]) -> None:
        bench = self.bench
        ids: defaultdict[str, set[str]] = defaultdict(set)
        arrivals: defaultdict[str, list[int]] = defaultdict(list)
        seen: set[str] = set()
        for message_id, event in self.events:
            ids[event.key].add(message_id)
            if message_id not in seen:
                seen.add(message_id)
                arrivals[event.account].append(event.number)
        missing = set(expected) - set(ids)
        bench.check(not missing, f"{len(missing)} postings were committed, and not published")
        extra = set(ids) - set(expected)
        bench.check(not extra, f"{len(extra)} events were published without a commit")
        other = {key for key in set(ids) & set(expected) if ids[key] != {expected[key]}}
        bench.check(not other, f"{len(other)} postings have events of other ids than their own")
        unordered = {name for name, numbers in arrivals.items() if numbers != sorted(numbers)}
        bench.check(not unordered, f"the events of {sorted(unordered)} came out of order")
        again = len(self.events) - len(seen)
        bench.figures.notes.append(f"{len(seen)} events, {again} more of the same ids")


@contextlib.asynccontextmanager
async def ledger(bench: Bench, kind: Kind = "postgres") -> AsyncIterator[Ledger]:
    """A ledger of this row alone, audited at the end of the block.

    The services must have stopped by then, and the events must be collected.
    """
    async with contextlib.AsyncExitStack() as stack:
        server = None
        if kind == "postgres":
            server = stack.enter_context(_server(bench))
            url = await _planted(server, bench)
        else:
            url = f"sqlite:///{bench.directory / 'ledger.sqlite'}"
        kept = Ledger(bench, url, server)
        stack.push_async_callback(kept.engine.dispose)
        await kept.create()
        try:
            yield kept
            await kept.audit()
        finally:
            counted = Counter(bench.effects()) + await kept.effects()
            bench.effects = lambda: counted


@contextlib.contextmanager
def _server(bench: Bench) -> Iterator[PostgresServer]:
    # Killed servers lose nothing by it, only crashed machines do.
    with start_postgres(find_postgres(os.environ), fsync=False) as server:
        try:
            yield server
        finally:
            with contextlib.suppress(Exception):
                server.resume()
            server.start()
            if isinstance(server, NodePostgres):
                (bench.logs / "postgres.log").write_bytes(server.log.read_bytes())


async def _planted(server: PostgresServer, bench: Bench) -> str:
    """The URL of a database of the row, and of a user whose password no log may have."""
    name = "ledger"
    url = await asyncio.to_thread(server.create_database, name)
    engine = create_async_engine(server.url, hide_parameters=True)
    try:
        async with engine.begin() as connection:
            await connection.execute(
                text(f"CREATE ROLE ledger SUPERUSER LOGIN PASSWORD '{bench.secrets.password}'")
            )
    finally:
        await engine.dispose()
    host = url.rpartition("@")[2]
    return f"postgresql://ledger:{bench.secrets.password}@{host}"


def _driver_url(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return {"postgresql": "postgresql+asyncpg", "sqlite": "sqlite+aiosqlite"}[scheme] + "://" + rest
