"""The messages of billing: a month is closed, with its fees, interest and statements."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from handlers.messages.values import (
    Frozen,
)


class CloseMonth(Frozen):
    """`billing.close-month`: charge the month's fees, credit its interest, write its statements."""

    month: Annotated[str, Field(pattern=r"^[1-9][0-9]{3}-(0[1-9]|1[0-2])$")]


class MonthClosed(Frozen):
    """`billing.month-closed`: the month's fees and interest are sent to the ledger."""

    month: str
    accounts: int
    statements: Annotated[str, Field(max_length=1000)]
    """The folder that they are in."""
