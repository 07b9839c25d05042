"""The events that the payment services publish, as pydantic models."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

MAX_ID = 2**63 - 1
"""The largest number that a signed 64-bit column holds."""

MAX_TEXT = 100
"""Characters in a code or name that the bank gives; its own are under 20."""

MAX_DIGITS = 15
"""Digits in an amount: what a signed 64-bit count of minor units holds in any sum of a few
thousand of them."""

FILE_HEADER = "file"
LINE_HEADER = "line"
"""The headers that say where a row, or its entry, stands."""

Id = Annotated[int, Field(ge=0, le=MAX_ID)]
Text = Annotated[str, Field(max_length=MAX_TEXT)]
Balance = Annotated[Decimal, Field(max_digits=MAX_DIGITS, decimal_places=2, allow_inf_nan=False)]
Amount = Annotated[
    Decimal, Field(gt=0, max_digits=MAX_DIGITS, decimal_places=2, allow_inf_nan=False)
]


class Direction(StrEnum):
    """Whether an entry adds to the customer's balance (credit) or takes from it (debit)."""

    CREDIT = "credit"
    DEBIT = "debit"


class EntryRecorded(BaseModel):
    """The bank recorded one entry on a customer's account; one row of its statement."""

    model_config = ConfigDict(frozen=True)

    transaction_id: Id
    """The bank's own number of the entry: the key under which it is posted once, for ever."""
    account_id: Id
    date: dt.date
    direction: Direction
    operation: Text = ""
    """The bank's word for how the money moved (VKLAD, PREVOD NA UCET ...); empty for none."""
    amount: Amount
    currency: Literal["CZK"] = "CZK"
    balance_after: Balance
    """The balance that the bank recorded with it, which it rounds to 0.10."""
    k_symbol: Text = ""
    """The bank's word for what it was for (UROK, SLUZBY, SIPO ...); empty for none."""
    partner_bank: Text = ""
    partner_account: Text = ""

    @property
    def signed_amount(self) -> Decimal:
        """Return what it adds to the customer's balance: negative for a debit."""
        return self.amount if self.direction is Direction.CREDIT else -self.amount


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an entry stands: the statement's file, without its folder, and its line there.

    It goes in the message's headers and not in its body: an entry that stands in two files is the
    same entry, and its message the same message.
    """

    file: str = ""
    line: int = 0
    """The header's is line 1; 0 where it came from no file."""

    def headers(self) -> dict[str, str | int]:
        """Write the headers that say it."""
        return {FILE_HEADER: self.file, LINE_HEADER: self.line}

    @classmethod
    def of(cls, headers: Mapping[str, object]) -> Self:
        """Read what the headers say; empty and 0 where they do not."""
        file, line = headers.get(FILE_HEADER), headers.get(LINE_HEADER)
        return cls(
            file if isinstance(file, str) else "",
            line if isinstance(line, int) and not isinstance(line, bool) and line > 0 else 0,
        )


NOWHERE = Origin()
