"""Reads Decimals from the text of numbers in JSON, where a float would lose digits.

pydantic's parser makes a float of every number with a fraction or an exponent, and a Decimal of
that. Up to 15 significant digits survive it. Where a body has a number that does not, the Decimals
of its type are looked up by their float among the numbers of the text.
"""

from __future__ import annotations

import re
import threading
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Any

from pydantic_core import PydanticCustomError, SchemaValidator

from mqkit.bodies.schemas import Schema, schemas_in, stop_early, validator
from mqkit.limits import outside_strings

AMBIGUOUS = "ambiguous_number"
"""The type of the error of a number that cannot be told from another one of its body."""

PLAIN = "\0plain"
EXACT = "\0exact"
REFUSED = "\0refused"
"""Ways of a Decimal through its schema; they stand in the places of errors."""

_MADE: dict[str, type[Decimal | Fraction]] = {"decimal": Decimal, "fraction": Fraction}
"""Types of schemas that read numbers exactly, and what they make."""

_AS_PATTERN = bytes(
    ord("0")
    if c in b"0123456789"
    else ord(".")
    if c in b"."
    else ord("e")
    if c in b"eE"
    else ord("-")
    if c in b"+-"
    else ord("[")
    if c in b"[{"
    else ord(" ")
    for c in range(256)
)

# Sixteen digits or more: eight of them stand on one side of the point, if there is one. What an
# expression begins with is found fast where it is always the same.
_LONG = re.compile(rb"\.(?:0{8}|(?<=0{8}\.))")
_LONG_OR_EXPONENT = re.compile(rb"0e(?:-?000|(?<=0{16}e))")

_NUMBER = re.compile(rb"-?[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
_EXPONENT = re.compile(rb"[0-9](?:[eE][-+]?[0-9]{3,}(?![\w-])|(?<=[0-9]{16})[eE])")
_MAY_LOSE = re.compile(rb"[0-9.]{17}|[0-9]{16}[eE]|[eE][-+]?[0-9]{3}")


def reads_decimals(schema: Schema) -> bool:
    """Tell whether a type has Decimals (or Fractions) in it."""
    return any(part["type"] in _MADE for part in schemas_in(schema))


def pattern_of(body: bytes) -> bytes:
    """Write a body of JSON with each digit as 0, and opening brackets as `[`; most else blank."""
    return body.translate(_AS_PATTERN)


def may_lose_digits(pattern: bytes, body: bytes) -> bool:
    """Tell, fast, whether a body may have a number that a float cannot hold.

    What it lets through is read right; `inexact_numbers` looks at the rest closely.

    :param pattern: `pattern_of` the body
    """
    if _LONG.search(pattern) is not None:
        return True
    # In hexadecimal there are such exponents, too.
    return _LONG_OR_EXPONENT.search(pattern) is not None and _EXPONENT.search(body) is not None


def inexact_numbers(body: bytes, *, in_strings: bool = False) -> dict[float, Decimal | None]:
    """Find the numbers that a float does not hold, by the floats that are made of them.

    None is a float that stands for two different numbers of this body.

    :param in_strings: whether numbers in strings count, too, as they may be JSON within JSON
    """
    text = body if in_strings else b" ".join(outside_strings(body))
    numbers = {found.group() for found in _NUMBER.finditer(text)}
    lost: dict[float, Decimal | None] = {}
    for number in numbers:
        if _MAY_LOSE.search(number) and not number.lstrip(b"-").isdigit():
            key, exact = _both(number)
            if exact is None or exact != Decimal(repr(key)):
                lost[key] = exact if lost.get(key, exact) == exact else None
    if not lost:
        return lost
    fractions = (number for number in numbers if not number.lstrip(b"-").isdigit())
    for number in fractions:
        if (key := float(number)) in lost and lost[key] != _both(number)[1]:
            lost[key] = None
    return lost


def _both(number: bytes) -> tuple[float, Decimal | None]:
    """Read a number as pydantic's parser does, and exactly; None is beyond a Decimal, too."""
    text = number.decode("ascii")
    try:
        return float(text), Decimal(text)
    except InvalidOperation:
        return float(text), None


class ExactValidator:
    """Validates bodies that have numbers which a float does not hold.

    Everything but Decimals is read as pydantic reads it: a float stays a float. A float that stands
    for two different numbers is refused where a Decimal is asked for.
    """

    def __init__(self, schema: Schema) -> None:
        self._in_strings = any(part["type"] == "json" for part in schemas_in(schema))
        self._of_this_thread = threading.local()
        self._validator: SchemaValidator = validator(
            schema, lambda part, forbids: self._exact(stop_early(part, forbids))
        )

    def numbers(self, body: bytes) -> dict[float, Decimal | None]:
        """Find the numbers that must be read exactly; without any, pydantic reads all right."""
        return inexact_numbers(body, in_strings=self._in_strings)

    def validate(self, body: bytes, numbers: dict[float, Decimal | None]) -> Any:
        """Validate a body; raises what pydantic and the validators of the type raise."""
        # A validator of the type may decode another body by the same decoder.
        before = getattr(self._of_this_thread, "numbers", {})
        self._of_this_thread.numbers = numbers
        try:
            return self._validator.validate_json(body)
        finally:
            self._of_this_thread.numbers = before

    def _exact(self, schema: Schema) -> Schema:
        if schema["type"] not in _MADE:
            return schema
        made = _MADE[schema["type"]]

        def way(value: Any) -> str:
            if type(value) is not float or value not in self._of_this_thread.numbers:
                return PLAIN
            return REFUSED if self._of_this_thread.numbers[value] is None else EXACT

        def read(value: Any) -> Any:
            return made(self._of_this_thread.numbers[value])

        # A union by a function: a value that needs nothing stays JSON for pydantic, with its rules
        # for JSON, and is not made a value of Python's first, as before any function.
        union = {
            "type": "tagged-union",
            "discriminator": way,
            "choices": {
                PLAIN: schema,
                EXACT: {
                    "type": "function-before",
                    "function": {"type": "no-info", "function": read},
                    "schema": schema,
                },
                REFUSED: {
                    "type": "function-plain",
                    "function": {"type": "no-info", "function": _refuse},
                },
            },
        }
        return {**union, "ref": schema.pop("ref")} if "ref" in schema else union


def _refuse(_: Any) -> Any:
    raise PydanticCustomError(
        AMBIGUOUS,
        "two numbers of the body are the same float, and differ in digits that it cannot hold; "
        "write them as strings",
    )
