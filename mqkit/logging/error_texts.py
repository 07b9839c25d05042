"""Texts of errors for logs and dead letters, whatever their classes do."""

from __future__ import annotations

import logging
import traceback


def error_type(error: BaseException) -> str:
    """Name an error's type with its module, as a traceback does."""
    kind = type(error)
    try:
        module, name = f"{kind.__module__}", f"{kind.__qualname__}"
    except BaseException:  # noqa: BLE001 - a class may do anything there, too
        return "<a type without a name>"
    return name if module == "builtins" else f"{module}.{name}"


_NO_TRACEBACK = "<traceback failed>"


def error_text(error: BaseException) -> str:
    """Return an error's own text; '<str() failed>' where its class cannot give it."""
    try:
        # Exactly a str: a class derived from it may do anything where it is cut or encoded.
        return str.__add__("", str(error))
    except BaseException:  # noqa: BLE001 - what an application's `__str__` raises is no news
        return "<str() failed>"


def error_traceback(error: BaseException) -> str:
    """Format an error with its traceback and causes; '<traceback failed>' where that fails."""
    try:
        return "".join(traceback.format_exception(error))
    except BaseException:  # noqa: BLE001 - as `error_text`
        return _NO_TRACEBACK


def describe(error: BaseException) -> str:
    """Describe an error for the log by its type and where it was raised, never by its text.

    The text may quote the message, and with it what must not be in a log.
    """
    try:
        frames = traceback.extract_tb(error.__traceback__)
    except BaseException:  # noqa: BLE001 - as `error_text`
        frames = traceback.StackSummary()
    where = f" at {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    return f"{error_type(error)}{where}"


def log_error(
    logger: logging.Logger, level: int, text: str, *arguments: object, error: BaseException
) -> None:
    """Log that something failed, with the error's traceback if it can be had.

    Logging lets through what an application's error raises where its traceback is made, if that is
    no `Exception`; whoever logs would then fail in the place of what it was logging about.
    """
    if error_traceback(error) == _NO_TRACEBACK:
        logger.log(level, f"{text}: %s %s", *arguments, error_type(error), _NO_TRACEBACK)  # noqa: G004
    else:
        logger.log(level, text, *arguments, exc_info=error)
