"""What messages are made of: currencies, ids, texts, partners."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from handlers.events import MAX_DIGITS

SHORT = 50
LONG = 200

WITHOUT_NUL = r"^[^\x00]*$"
"""A pattern of text that every database keeps; PostgreSQL keeps no NUL."""


class Currency(StrEnum):
    """The currencies that accounts are kept in; all of them have two digits behind the point."""

    CZK = "CZK"
    EUR = "EUR"
    USD = "USD"


OrderId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=SHORT)]
"""Names an order, a refund: what its sender chose, and what stands in business keys."""

Reason = Annotated[str, Field(max_length=LONG, pattern=WITHOUT_NUL)]
Balance = Annotated[Decimal, Field(max_digits=MAX_DIGITS, decimal_places=2, allow_inf_nan=False)]


class Frozen(BaseModel):
    """The ground of all messages: what came does not change, and what nobody knows is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Partner(Frozen):
    """Whom an order pays: an account at another bank."""

    bank: Annotated[str, Field(min_length=1, max_length=SHORT, pattern=WITHOUT_NUL)]
    account: Annotated[str, Field(min_length=1, max_length=SHORT, pattern=WITHOUT_NUL)]
