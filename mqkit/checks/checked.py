"""Checks of options as they are given: times, numbers, flags and names.

Each option says here what it takes, so that all refuse the same: NaN and infinity, text in the
place of a number, True in the place of 1, and what is out of its range.
"""

from __future__ import annotations

import inspect
import math
from datetime import timedelta

from mqkit.errors import ConfigurationError, OptionError

Seconds = float | timedelta
"""A time, as an option takes it."""

MAX_SECONDS = 1_000_000_000
"""Seconds, 31 years: more than anybody waits, and what event loops, locks and dates still take."""

MAX_SHORT = 255
"""Bytes of a name or a routing key: a short string (AMQP 0-9-1, section 4.2.5.3)."""

_SHOWN = 80
"""Characters of a value in an error's text."""


def seconds(
    value: object,
    option: str,
    *,
    least: float = 0,
    over: float | None = None,
    most: float = MAX_SECONDS,
    error: type[ConfigurationError] = OptionError,
) -> float:
    """Check a time, a number or a timedelta, and return its seconds.

    :param option: what the error calls it: 'Pause(every=...)'
    :param least: the shortest that there may be
    :param over: instead of that, what it must be longer than
    :raises OptionError: it is neither, or out of its range; or `error` instead
    """
    found = as_seconds(value)
    if found is None or not (found >= least if over is None else found > over) or found > most:
        low = f"{least:g} or more" if over is None else f"more than {over:g}"
        raise error(
            f"{option} is seconds, {low} and up to {most:.0f}, as a number or a timedelta, "
            f"not {shown(value)}"
        )
    return found


def number(
    value: object,
    option: str,
    what: str,
    *,
    over: float,
    most: float = MAX_SECONDS,
    error: type[ConfigurationError] = OptionError,
) -> float:
    """Check a number that need not be whole, and return it.

    :param option: what the error calls it: 'Pace(rate=...)'
    :param what: what it counts: 'messages a second'
    :raises OptionError: it is none, or out of its range; or `error` instead
    """
    found = as_number(value)
    if found is None or not over < found <= most:
        raise error(
            f"{option} is {what}, a number over {over:g} and up to {most:.0f}, not {shown(value)}"
        )
    return found


def count(
    value: object,
    option: str,
    *,
    least: int = 1,
    most: int | None = None,
    error: type[ConfigurationError] = OptionError,
) -> int:
    """Check a whole number, and return it.

    :raises OptionError: it is none, or out of its range; or `error` instead
    """
    if not is_whole(value, least, most):
        end = "or more" if most is None else f"to {most}"
        raise error(f"{option} is {least} {end}, a whole number, not {shown(value)}")
    assert isinstance(value, int)
    return int(value)


def flag(value: object, option: str, *, error: type[ConfigurationError] = OptionError) -> bool:
    """Check that a value is True or False, and return it; 'no' and 0 are neither.

    :raises OptionError: it is neither; or `error` instead
    """
    if not isinstance(value, bool):
        raise error(f"{option} is True or False, not {shown(value)}")
    return value


def name(value: object, option: str, *, error: type[ConfigurationError] = OptionError) -> str:
    """Check a name that is sent to the broker, and return it.

    :raises OptionError: it is no text, empty, over 255 bytes long, or not to be written in UTF-8;
        or `error` instead
    """
    if not isinstance(value, str) or not value:
        raise error(f"{option} is a name, not {shown(value)}")
    if problem := text_problem(value):
        raise error(f"{option} is a name, and {shown(value)} {problem}")
    return value


def text_problem(value: str) -> str | None:
    """Say why a text cannot be a short string (AMQP 0-9-1, section 4.2.5.3); None if it can."""
    if len(value) <= MAX_SHORT and value.isascii() and "\0" not in value:
        return None
    if len(value) > MAX_SHORT or len(value.encode(errors="replace")) > MAX_SHORT:
        return f"is over {MAX_SHORT} bytes long"
    if not is_utf8(value):
        return "has a character that UTF-8 cannot write"
    return "has a NUL character" if "\0" in value else None


def is_utf8(value: str) -> bool:
    """Tell whether a text can be written in UTF-8: it has no half of a character (a surrogate)."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def as_seconds(value: object) -> float | None:
    """Return the seconds of a finite number or a timedelta; None for anything else."""
    if isinstance(value, timedelta):
        return value.total_seconds()
    return as_number(value)


def as_number(value: object) -> float | None:
    """Return a finite number; None for anything else, True and False among it."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def is_whole(value: object, least: int, most: int | None = None) -> bool:
    """Tell whether a value is a whole number in that range; True and False are none."""
    if isinstance(value, bool) or not isinstance(value, int):
        return False
    return value >= least and (most is None or value <= most)


def takes(function: object, arguments: int) -> bool:
    """Tell whether a function takes this number of arguments, by its signature."""
    if not callable(function):
        return False
    try:
        inspect.signature(function).bind(*[None] * arguments)
    except TypeError:
        return False
    except ValueError:  # it has no signature, as some of C have none
        return True
    return True


def is_hashable(value: object) -> bool:
    """Tell whether a value can be a key of a dict."""
    try:
        hash(value)
    except TypeError:
        return False
    return True


def shown(value: object) -> str:
    """Show a value in an error's text: its repr, cut, or its type where that fails."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - of a number over 4,300 digits, or a class of the application
        return f"a {type(value).__name__}"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
