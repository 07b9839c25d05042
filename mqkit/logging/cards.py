"""Finds card numbers in a text by their check digit, with spaces or dashes in them or without.

A number is one if it has a card scheme's first digits and length, and Luhn's check digit is right
(ISO/IEC 7812-1). One random number in ten has that; of the ids, times and amounts that stand in a
log most have no scheme's first digits. An IBAN with right check digits (ISO 13616) and a UUID are
none, whatever digits are in them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_UUID = r"(?<![0-9A-Za-z])[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}(?![0-9A-Za-z])"

_IBAN = (
    r"(?<![0-9A-Za-z])[A-Z]{2}[0-9]{2}(?:[ ]?[0-9A-Z]{4}){2,7}(?:[ ]?[0-9A-Z]{1,3})?(?![0-9A-Za-z])"
)

_SEPARATOR = "[ \\-\u00a0\u2007\u2010-\u2015\u2212\u202f]"

_KNOWN = re.compile(rf"(?P<uuid>{_UUID})|(?P<iban>{_IBAN})")

_RUN = re.compile(rf"[0-9](?:{_SEPARATOR}{{0,3}}[0-9]){{12,}}")
"""As many digits as may be a card number, or several, or a part of something else."""

_GROUP = re.compile("[0-9]+")

SHORTEST, LONGEST = 13, 19

_SCHEMES = re.compile(
    r"4[0-9]{12,18}"  # Visa
    r"|5[0-9]{12,18}"  # Mastercard, Maestro
    r"|6[0-9]{12,18}"  # Discover, UnionPay, Maestro, RuPay
    r"|3[47][0-9]{13}"  # American Express
    r"|3[0689][0-9]{12,17}"  # Diners Club
    r"|35[0-9]{14,17}"  # JCB
    r"|2(?:20[0-4]|22[1-9]|2[3-9][0-9]|[3-6][0-9]{2}|7[01][0-9]|720)[0-9]{12,15}"  # Mir, Mastercard
    r"|(?:8[12]|9792)[0-9]{12,14}"  # RuPay, Troy
)


def mask_cards(text: str, mask: str) -> str:
    """Return the text with each card number replaced."""
    made, kept = [], 0
    known: list[tuple[int, int]] | None = None
    for run in _RUN.finditer(text):
        groups = [found.span() for found in _GROUP.finditer(text, *run.span())]
        first = 0
        while first < len(groups):
            last = _end_of_card(text, groups, first)
            if last is not None and known is None:
                known = list(_known(text))
            if last is None or any(
                begin < groups[last][1] and groups[first][0] < end for begin, end in known or ()
            ):
                first += 1
                continue
            made += [text[kept : groups[first][0]], mask]
            kept, first = groups[last][1], last + 1
    return "".join([*made, text[kept:]]) if made else text


def is_luhn(digits: str) -> bool:
    """Whether the last digit is the check digit of the others."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        doubled = int(digit) * 2 if place % 2 else int(digit)
        total += doubled - 9 if doubled > 9 else doubled  # noqa: PLR2004 - the digits' sum
    return total % 10 == 0


def _end_of_card(text: str, groups: list[tuple[int, int]], first: int) -> int | None:
    """Return the group with which the longest card number ends that begins with the first one."""
    if _goes_on_before(text, groups[first][0]):
        return None
    digits, end = "", None
    for number in range(first, min(first + LONGEST, len(groups))):
        begin, stop = groups[number]
        if len(digits) + stop - begin > LONGEST:
            break
        digits += text[begin:stop]
        if (
            len(digits) >= SHORTEST
            and _SCHEMES.fullmatch(digits)
            and is_luhn(digits)
            and not text[stop : stop + 1].isalnum()
        ):
            end = number
    return end


def _goes_on_before(text: str, at: int) -> bool:
    """Whether what stands before the digits belongs to them: letters, or a decimal point."""
    before = text[max(at - 2, 0) : at]
    if not before:
        return False
    if before[-1] == ".":
        return before[:-1].isdecimal()
    # Of an escaped text: a backslash and the letter of a line's end.
    return before[-1].isalnum() and not (before[0] == "\\" and before[-1] in "nrt")


def _known(text: str) -> Iterator[tuple[int, int]]:
    """Return where the UUIDs and IBANs are."""
    for found in _KNOWN.finditer(text):
        if found["uuid"] is not None or _is_iban(found.group()):
            yield found.span()


def _is_iban(text: str) -> bool:
    characters = text.replace(" ", "")
    digits = "".join(str(int(each, 36)) for each in characters[4:] + characters[:4])
    return int(digits) % 97 == 1
