"""Entries of a bank, as short as a test wants them."""

from __future__ import annotations

from datetime import date

from handlers.events import Direction, EntryRecorded


def entry(number: int, amount: str = "10.00", account: int = 7, **changes: object) -> EntryRecorded:
    """One credit."""
    return EntryRecorded.model_validate(
        {
            "transaction_id": number,
            "account_id": account,
            "date": date(1993, 1, 1),
            "direction": Direction.CREDIT,
            "operation": "VKLAD",
            "amount": amount,
            "balance_after": amount,
            **changes,
        }
    )
