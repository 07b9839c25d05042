"""The ledger service: posts the bank's entries, and carries out commands on accounts and holds.

Either may come twice: an ack was lost, a process was killed, or the bank's statement is replayed.
Its postings, the store's note that its message is handled, and what is published for it are
committed together, and before the ack; so the second time nothing is done. The note is kept for
some weeks. Money also has a key that is kept for ever: the bank's own id, or a command's business
key, which the ledger's tables have once.
"""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import AsyncIterator

from sqlalchemy import MetaData
from tenacity import retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from handlers import bookings
from handlers.accounting import carrying_out, posting, schema
from handlers.accounting.database import database_url
from handlers.accounting.errors import ConflictError, LedgerError, RacedError
from handlers.accounting.reading import Ledger, open_ledger
from handlers.events import EntryRecorded, Origin
from handlers.messages import (
    LEDGER,
    AccountBalance,
    BalanceOf,
    ExecutionAnswered,
    HoldAnswered,
    HoldChanged,
    LedgerCommand,
    PayBackAnswered,
    Posted,
    ReleaseAnswered,
)
from handlers.statements import ENTRIES
from mqkit import Delivery, Queue, Reject, Retry, Service
from mqkit.errors import StatementError
from mqkit.store import Store, Transaction

POST_QUEUE = Queue("ledger.post", partitions=1)
"""One partition: SQLite has one writer at a time, so a second process would only wait for the first
one's commits. It stands by, and takes over where the first one dies."""

COMMANDS_QUEUE = Queue("ledger.commands", partitions=1)
"""One partition, as of the entries' queue."""

BALANCE_QUEUE = Queue("ledger.balance")

SIZE = 200
"""Messages that are read and written together, and committed: each of another account."""

WITHIN = 0.01
"""Seconds that the first of them waits for the others."""


def configured_database() -> str:
    """Return the URL that `LEDGER_DATABASE` says, or names as a file's path."""
    return database_url(os.environ.get("LEDGER_DATABASE", "ledger.sqlite"))


store = Store(configured_database)
"""In the database of the postings, as what it keeps is committed with them."""

service = Service(
    "ledger",
    store=store,
    publishes=[
        LEDGER.carries("ledger.answered.hold", HoldAnswered),
        LEDGER.carries("ledger.answered.execute", ExecutionAnswered),
        LEDGER.carries("ledger.answered.release", ReleaseAnswered),
        LEDGER.carries("ledger.answered.refund", PayBackAnswered),
        LEDGER.carries("ledger.posted", Posted),
        LEDGER.carries("ledger.hold-changed", HoldChanged),
    ],
    retry=Retry(
        stop=stop_after_attempt(10),
        wait=wait_exponential_jitter(multiplier=0.5, max=60),
        # A statement that took too long may be faster next time. A database that is away or locked
        # costs no attempt, and whatever else fails would fail again.
        retry=retry_if_exception_type((StatementError, RacedError)),
    ),
)


async def created_tables() -> MetaData:
    """Create the ledger's tables beside the store's own, before the first entry comes."""
    async with store.transaction() as transaction:
        await schema.create_tables(transaction.connection)
    return schema.metadata


async def opened_ledger() -> AsyncIterator[Ledger]:
    """Open the ledger for reading, beside the store and its transactions."""
    async with open_ledger(configured_database()) as ledger:
        yield ledger


service.provide(MetaData, created_tables, scope="service")
service.provide(Ledger, opened_ledger, scope="service")


@service.batch(
    POST_QUEUE,
    bind=[ENTRIES.key("entry.#")],
    size=SIZE,
    within=WITHIN,
    # Entries of a batch are of different accounts, so many accounts have to be under way.
    prefetch=5 * SIZE,
    order_by="account_id",
)
async def post(
    entries: list[EntryRecorded], deliveries: list[Delivery], transaction: Transaction
) -> list[Reject | None]:
    """Post entries; a second time, and under whatever message id, one does nothing.

    One whose bank's transaction id is posted already, with another content, is rejected.
    """
    origins = [Origin.of(each.headers) for each in deliveries]
    results = await posting.post_all(
        transaction.connection,
        list(zip(entries, origins, strict=True)),
        execute=transaction.execute,
    )
    return [_rejected(*each) for each in zip(results, origins, strict=True)]


def _rejected(result: bool | ConflictError, origin: Origin) -> Reject | None:
    if not isinstance(result, ConflictError):
        return None
    return Reject(f"line {origin.line}: {result}" if origin.line else str(result))


@service.batch(
    COMMANDS_QUEUE,
    bind=[LEDGER.key("ledger.command.#")],
    size=SIZE,
    within=WITHIN,
    prefetch=5 * SIZE,
    order_by="account_id",
)
async def carry_out(asked: list[LedgerCommand], transaction: Transaction) -> list[Reject | None]:
    """Carry commands out, answer them, and publish what has happened, in each account's order.

    One that comes again, under whatever message id, is answered again and does nothing. One whose
    business key has another content in the ledger, and one that cannot be carried out and is of a
    kind that has no answer, is rejected.
    """
    booked, now = [bookings.booking(command) for command in asked], dt.datetime.now(dt.UTC)
    outcomes = await carrying_out.carry_out_all(
        transaction.connection, booked, now, execute=transaction.execute
    )
    results: list[Reject | None] = []
    for command, booking, outcome in zip(asked, booked, outcomes, strict=True):
        if isinstance(outcome, Exception):
            results.append(Reject(str(outcome)))
            continue
        account = str(command.account_id)
        if (answer := bookings.answer(command, outcome)) is not None:
            await transaction.publish(LEDGER, *answer, key=account)
        for event in bookings.events(booking, outcome, now):
            # Nobody need listen to them, and a command must not wait until somebody does.
            await transaction.publish(LEDGER, *event, key=account, mandatory=False)
        results.append(None)
    return results


@service.handler(
    BALANCE_QUEUE,
    bind=[LEDGER.key("ledger.balance")],
    # Who asks waits for no longer.
    retry=Retry(
        stop=stop_after_attempt(3),
        wait=wait_exponential_jitter(multiplier=0.5, max=5),
        retry=retry_if_exception_type(LedgerError),
    ),
)
async def balance(question: BalanceOf, ledger: Ledger) -> AccountBalance:
    """Answer with an account's balance; zeros where nothing is known of it."""
    account = await ledger.account(question.account_id, question.currency)
    return AccountBalance(
        account_id=account.account_id,
        currency=question.currency,
        balance=account.balance,
        held=account.held,
        available=account.available,
    )
