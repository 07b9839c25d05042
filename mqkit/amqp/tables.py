"""Checks whether headers or arguments can be encoded as an AMQP table.

Types are those of `mqkit.message.HeaderValue` (AMQP 0-9-1, section 4.2.5.5, as RabbitMQ has it:
https://www.rabbitmq.com/amqp-0-9-1-errata#section_3). How deep and how large a table may be is a
matter of `mqkit.limits`, and is checked before this, which visits every value.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from mqkit.checks.checked import is_utf8, shown, text_problem

MAX_DECIMALS = 255
"""Decimal places: they are one octet."""

TAKES = "text, bytes, numbers, booleans, Decimal, datetime, None, and lists and dicts of those"


def table_problem(table: Mapping[Any, Any], what: str) -> str | None:
    """Say what of a table cannot be encoded, and what to give in its place; None is nothing.

    It quotes no value, which may be secret.

    :param what: what one of its entries is called: 'header'
    """
    for name, value in table.items():
        if not isinstance(name, str) or not name:
            return f"a {what}'s name is text of 1 to 255 bytes, not {shown(name)}"
        if problem := text_problem(name):
            return f"a {what}'s name is text of 1 to 255 bytes, and {shown(name)} {problem}"
        # Most are one of these, and then that was all.
        kind = type(value)
        if kind is str and value.isascii():
            continue
        if kind is int and -(2**63) <= value < 2**63:
            continue
        if problem := _value_problem(value):
            return f"{what} {shown(name)} {problem}"
    return None


def _value_problem(value: Any) -> str | None:
    left = [value]
    while left:
        each = left.pop()
        if isinstance(each, dict):
            for name in each:
                if not isinstance(name, str) or (problem := text_problem(name)):
                    told = problem if isinstance(name, str) else "is no text"
                    return f"holds a table in which the name {shown(name)} {told}"
            left.extend(each.values())
        elif isinstance(each, list):
            left.extend(each)
        elif problem := _plain_problem(each):
            return problem if each is value else f"holds a value that {problem}"
    return None


def _plain_problem(value: Any) -> str | None:  # noqa: PLR0911 - one a type
    match value:
        case None | bool() | bytes():
            return None
        case float():
            # RabbitMQ (4.0.5, 4.3.6) closes the connection of whoever writes one (541).
            return None if math.isfinite(value) else "is no finite number: give it as text"
        case str():
            return None if is_utf8(value) else "has a character that UTF-8 cannot write"
        case int():
            if -(2**63) <= value < 2**63:
                return None
            return "is a whole number that takes over 64 bits: give it as text"
        case Decimal():
            return _decimal_problem(value)
        case datetime():
            return _time_problem(value)
    return f"is a {type(value).__name__}; there may be {TAKES}"


def _decimal_problem(value: Decimal) -> str | None:
    sign, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int):
        return "is a Decimal that is no finite number: give it as text"
    if len(digits) > MAX_DECIMALS:
        return _TOO_PRECISE
    written = "".join(map(str, digits))
    significant = written.rstrip("0")
    exponent += len(written) - len(significant)
    significant = significant.lstrip("0")
    if not significant:
        return None
    # Its length first: 10 ** 1_000_000 would be reckoned out for nothing.
    if -exponent > MAX_DECIMALS or len(significant) + max(exponent, 0) > len(str(2**31)):
        return _TOO_PRECISE
    number = int(significant) * 10 ** max(exponent, 0)
    return None if number < 2**31 + sign else _TOO_PRECISE


_TOO_PRECISE = (
    "is a Decimal of more digits than AMQP's, which are a whole number of 32 bits and up to "
    f"{MAX_DECIMALS} decimal places: give it as text"
)


def _time_problem(value: datetime) -> str | None:
    if value.tzinfo is None:
        return "is a datetime without a time zone: give it one, as datetime.now(UTC) has"
    try:
        is_writable = value.astimezone(UTC).timestamp() >= 0
    except Exception:  # noqa: BLE001 - a time zone is a class of the application
        is_writable = False
    return None if is_writable else "is a datetime before 1970 or after 9999, in UTC"
