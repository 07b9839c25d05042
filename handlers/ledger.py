"""The ledger service: posts each entry as a double entry, once, and each account's in order.

An entry may come twice: an ack was lost, a process was killed, or the bank's statement is replayed.
Its postings, and the store's note that its message is handled, are committed together, and before
the ack; so the second time nothing is done. The note is kept for some weeks. Money also has a key
that is kept for ever: the bank's own id, which the ledger's table has once.
"""

from __future__ import annotations

import os

from sqlalchemy import MetaData
from tenacity import retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from handlers.accounting import posting, schema
from handlers.accounting.database import database_url
from handlers.accounting.errors import ConflictError
from handlers.events import EntryRecorded, Origin
from handlers.statements import ENTRIES
from mqkit import Delivery, Queue, Reject, Retry, Service
from mqkit.errors import StatementError
from mqkit.store import Store, Transaction

POST_QUEUE = Queue("ledger.post", partitions=1)
"""One partition: SQLite has one writer at a time, so a second process would only wait for the first
one's commits. It stands by, and takes over where the first one dies."""


def configured_database() -> str:
    """Return the URL that `LEDGER_DATABASE` says, or names as a file's path."""
    return database_url(os.environ.get("LEDGER_DATABASE", "ledger.sqlite"))


store = Store(configured_database)
"""In the database of the postings, as what it keeps is committed with them."""

service = Service(
    "ledger",
    store=store,
    retry=Retry(
        stop=stop_after_attempt(10),
        wait=wait_exponential_jitter(multiplier=0.5, max=60),
        # A statement that took too long may be faster next time. A database that is away or locked
        # costs no attempt, and whatever else fails would fail again.
        retry=retry_if_exception_type(StatementError),
    ),
)


async def created_tables() -> MetaData:
    """Create the ledger's tables beside the store's own, before the first entry comes."""
    async with store.transaction() as transaction:
        await schema.create_tables(transaction.connection)
    return schema.metadata


service.provide(MetaData, created_tables, scope="service")


@service.handler(
    POST_QUEUE,
    bind=[ENTRIES.key("entry.#")],
    # Entries that are ready at the same time share a commit; they are of different accounts, so
    # many accounts have to be under way.
    prefetch=500,
    concurrency=250,
    order_by="account_id",
)
async def post(entry: EntryRecorded, delivery: Delivery, transaction: Transaction) -> None:
    """Post the entry; a second time, and under whatever message id, it does nothing.

    :raises Reject: the bank's transaction id is posted already, with another content
    """
    origin = Origin.of(delivery.headers)
    try:
        await posting.post(transaction.connection, entry, origin)
    except ConflictError as error:
        raise Reject(f"line {origin.line}: {error}" if origin.line else str(error)) from error
