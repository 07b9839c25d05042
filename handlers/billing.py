"""The billing service: closes months, with a fee and interest for each account, and statements.

It knows accounts by what the ledger posts to them. A month's close is a message that the close of
the month before has published, to be delivered when the month is over: no cron job starts it. That
of the first month is published by the service's first start, when it begins to know what is posted.

What was posted before the month's end, and is known at its close, stands on the month's statement.
What becomes known later (the ledger's event was on its way, or the month was closed early, by hand)
stands on the next one. So each posting stands on one statement, and no statement changes.
"""

from __future__ import annotations

import asyncio
import os
from decimal import Decimal
from pathlib import Path

from sqlalchemy import MetaData
from tenacity import retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from handlers.accounting.double_entry import customer_account
from handlers.clock import Clock
from handlers.databases import configured, keep_tables
from handlers.messages import (
    BILLING,
    LEDGER,
    Charge,
    CloseMonth,
    CreditInterest,
    Currency,
    MonthClosed,
    Posted,
)
from handlers.monthly.files import write_statements
from handlers.monthly.month import Month
from handlers.monthly.statement import Line, Statement, make_statement
from handlers.records import billing as records
from mqkit import Queue, Reject, Retry, Service
from mqkit.errors import StatementError
from mqkit.store import Store, Transaction

store = Store(configured("billing"))
service = Service(
    "billing",
    store=store,
    publishes=[
        BILLING.carries("billing.month-closed", MonthClosed),
        BILLING.carries("billing.close-month", CloseMonth),
        LEDGER.carries("ledger.command.charge", Charge),
        LEDGER.carries("ledger.command.interest", CreditInterest),
    ],
    retry=Retry(
        stop=stop_after_attempt(10),
        wait=wait_exponential_jitter(multiplier=0.5, max=60),
        # OSError: the disk with the statements is full, or away.
        retry=retry_if_exception_type((StatementError, OSError)),
    ),
)


async def open_month(_tables: MetaData, clock: Clock) -> Month:
    """Plan the close of the open month, which is this one when the service starts first.

    Each start plans it again, under the same message id: a broker that was lost with all that it
    held would else be the end of all closes.
    """
    async with store.transaction() as transaction:
        month = await records.open_month(transaction.connection, Month.of(clock.now()))
        await plan_close(month, transaction)
    return month


def statements_folder() -> Path:
    """Return the folder that `BILLING_STATEMENTS` names; without it, `statements`."""
    return Path(os.environ.get("BILLING_STATEMENTS", "statements"))


keep_tables(service, store, records.metadata)
service.provide(Clock, Clock, scope="service")
service.provide(Month, open_month, scope="service")
service.provide(Path, statements_folder, scope="service")


@service.handler(Queue("billing.postings"), bind=[LEDGER.key("ledger.posted")])
async def record(posted: Posted, transaction: Transaction) -> None:
    """Keep what was posted to a customer's account, for the statement of its month.

    :raises Reject: it has nothing of the customer's, or its key is another posting's
    """
    customer = customer_account(posted.account_id)
    amounts: dict[Currency, Decimal] = {}
    for side in posted.sides:
        if side.account == customer:
            amounts[side.currency] = amounts.get(side.currency, Decimal(0)) + side.amount
    if not amounts:
        raise Reject(f"{posted.business_key} has no posting to {customer}")
    for currency, amount in amounts.items():
        line = Line(posted.business_key, posted.kind, amount, posted.posted_at)
        if not await records.keep_posting(
            transaction.connection, posted.account_id, currency, line
        ):
            raise Reject(f"{posted.business_key} was posted before, with another content")


@service.handler(
    Queue("billing.close-month"),
    bind=[BILLING.key("billing.close-month")],
    prefetch=1,
    share_commits=False,  # it takes long, and writes files besides
)
async def close_month(
    command: CloseMonth, transaction: Transaction, clock: Clock, folder: Path
) -> None:
    """Close a month; a second time, it writes the same statements and does nothing else.

    :raises Reject: the month is not the next one to be closed, or has not begun
    """
    month, connection = Month.parse(command.month), transaction.connection
    is_closed = await records.is_closed(connection, month)
    if is_closed is None:
        due = await records.open_month(connection, Month.of(clock.now()))
        raise Reject(f"{month} cannot be closed: the next month to be closed is {due}")
    if not is_closed:
        if clock.now() < month.start:
            raise Reject(f"{month} cannot be closed: it has not begun")
        await records.claim_lines(connection, month)
        lines = await records.find_lines(connection, month)
        opening = await records.find_closings(connection, month.previous)
        made = [
            make_statement(month, *account, opening.get(account, Decimal(0)), lines[account])
            for account in lines.keys() | opening.keys()
        ]
        await records.close(connection, month, made)
    statements = await records.find_statements(connection, month)
    # Before the commit, so that whoever hears of the month's close finds them.
    place = await asyncio.to_thread(write_statements, folder, month, statements)
    if is_closed:
        return
    for statement in statements:
        await publish_dues(statement, transaction)
    closed = MonthClosed(month=str(month), accounts=len(statements), statements=str(place))
    await transaction.publish(
        BILLING,
        "billing.month-closed",
        closed,
        message_id=f"month-closed-{month}",
        mandatory=False,  # nobody need listen
    )
    await plan_close(month.next, transaction)


async def publish_dues(statement: Statement, transaction: Transaction) -> None:
    """Tell the ledger to take the fee of a statement, and to pay its interest.

    Without a `key`, as neither need wait for the other: thousands of keys in one transaction are
    thousands of locks.
    """
    account_id, currency = statement.account_id, Currency(statement.currency)
    of = f"{statement.month}-{account_id}-{currency}"
    fee = Charge(
        charge_id=f"fee-{of}", account_id=account_id, amount=statement.fee, currency=currency
    )
    await transaction.publish(LEDGER, "ledger.command.charge", fee, message_id=fee.charge_id)
    if statement.interest:
        earned = CreditInterest(
            interest_id=f"interest-{of}",
            account_id=account_id,
            amount=statement.interest,
            currency=currency,
        )
        await transaction.publish(
            LEDGER, "ledger.command.interest", earned, message_id=earned.interest_id
        )


async def plan_close(month: Month, transaction: Transaction) -> None:
    """Publish a month's close, to be delivered when the month is over."""
    await transaction.publish(
        BILLING,
        "billing.close-month",
        CloseMonth(month=str(month)),
        message_id=f"close-{month}",
        at=month.end,
    )
