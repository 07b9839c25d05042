"""The statements service: each row of a bank's statement becomes an `EntryRecorded`."""

from __future__ import annotations

from tenacity import retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from handlers.bank_format import RowError, parse_row, row_account
from handlers.events import EntryRecorded, Origin
from mqkit import Delivery, Exchange, Publisher, PublishError, Queue, Reject, Retry, Service

STATEMENTS = Exchange("statements", type="direct")
ROW_KEY = "row"

ROWS_QUEUE = Queue("statements.rows", partitions=1)
"""One partition, and so no publish more for a row: one process reads rows faster than the ledger
posts their entries, and another one takes over where it dies."""

ENTRIES = Exchange("bank.entries", type="topic")

service = Service(
    "statements",
    publishes=[ENTRIES.carries("entry.*.*", EntryRecorded)],
    retry=Retry(
        stop=stop_after_attempt(10),
        wait=wait_exponential_jitter(multiplier=0.5, max=60),
        # A publish that failed says nothing against the row. Any other error is a fault of
        # this program, which the same row would meet again.
        retry=retry_if_exception_type(PublishError),
    ),
)


@service.handler(
    ROWS_QUEUE,
    bind=[STATEMENTS.key(ROW_KEY)],
    # Each run waits for one confirm; many accounts at a time let the publishes pipeline.
    prefetch=1000,
    concurrency=500,
    # The next row of an account is read once the entry before it is confirmed.
    order_by=row_account,
)
async def record(row: bytes, delivery: Delivery, publisher: Publisher) -> None:
    """Publish the entry that a row says; the row is acknowledged once that is confirmed.

    :raises Reject: the row is malformed; the reason names its line and the field
    """
    origin = Origin.of(delivery.headers)
    try:
        entry = parse_row(row)
    except RowError as error:
        raise Reject(f"line {origin.line}: {error}" if origin.line else str(error)) from error
    await publisher.publish(
        ENTRIES,
        entry_routing_key(entry),
        entry,
        message_id=entry_message_id(entry),
        headers=origin.headers(),
    )


def entry_routing_key(entry: EntryRecorded) -> str:
    """Return `entry.credit.576`: a service may bind to one direction, and to some accounts."""
    return f"entry.{entry.direction}.{entry.account_id}"


def entry_message_id(entry: EntryRecorded) -> str:
    """Return the message's identity, which is the bank's: the same entry is the same message."""
    return f"bank-entry-{entry.transaction_id}"
