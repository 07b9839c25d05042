"""The ledger service: posts each entry as a double entry, once, and each account's in order."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

from tenacity import retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from handlers.accounting.errors import ConflictError, LedgerUnavailableError
from handlers.accounting.store import Ledger, open_ledger
from handlers.events import EntryRecorded
from handlers.statements import ENTRIES
from mqkit import Queue, Reject, Retry, Service

POST_QUEUE = Queue("ledger.post", partitions=1)
"""One partition: SQLite has one writer at a time, so a second process would only wait for the first
one's commits. It stands by, and takes over where the first one dies."""


async def configured_ledger() -> AsyncIterator[Ledger]:
    """Open the ledger that `LEDGER_DATABASE` names, or `ledger.sqlite` in the current directory."""
    async with open_ledger(Path(os.environ.get("LEDGER_DATABASE", "ledger.sqlite"))) as ledger:
        yield ledger


service = Service(
    "ledger",
    retry=Retry(
        stop=stop_after_attempt(10),
        wait=wait_exponential_jitter(multiplier=0.5, max=60),
        # A locked or full database may recover. Whatever else fails would fail again.
        retry=retry_if_exception_type(LedgerUnavailableError),
    ),
)
service.provide(Ledger, configured_ledger, scope="service")


@service.handler(
    POST_QUEUE,
    bind=[ENTRIES.key("entry.#")],
    # Entries that are posted at the same time share a commit (see ledger_store); they are of
    # different accounts, so many accounts have to be under way.
    prefetch=500,
    concurrency=250,
    order_by="account_id",
)
async def post(entry: EntryRecorded, ledger: Ledger) -> None:
    """Post the entry; it is acknowledged once it is on the disk, and a second time does nothing.

    :raises Reject: the bank's transaction id is posted already, with another content
    """
    try:
        await ledger.post(entry)
    except ConflictError as error:
        where = f"line {entry.source_line}: " if entry.source_line else ""
        raise Reject(f"{where}{error}") from error
