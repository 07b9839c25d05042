"""Says of an error what the log is to tell: its type, its text, its cause, and where it was raised.

The one way of an error to a log of mqkit's. What its text quotes of a message may be secret:
`Masker` masks what looks like it, and a service whose errors carry personal data shows types alone.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

from mqkit.logging.error_texts import (
    NO_TRACEBACK,
    causes,
    error_type,
    masked_line,
    masked_traceback,
)
from mqkit.logging.masking import DEFAULT, Masker
from mqkit.logging.places import place_of
from mqkit.logging.shown import shown

Detail = Literal["type", "text", "traceback"]
"""How much of an error is in the log: its type and place; its text, too; its traceback, too."""

DETAILS: tuple[Detail, ...] = ("type", "text", "traceback")

MAX_CAUSES = 3
MAX_CHILDREN = 3
"""Causes, and errors of a group, that are told of."""

MAX_CAUSE = 200
"""Characters of a cause's text."""

MAX_ERROR = 2_000
"""Characters of all that is told of one error on its line."""


@dataclass(frozen=True, slots=True)
class ErrorReport:
    """What the log says of one error."""

    type: str
    """The name of its class, with its module."""
    text: str | None
    """Its text on one line, masked; None where it is not to be shown."""
    cause: str | None
    """What it was raised from, and what that was; None if there is none."""
    where: str | None
    """The innermost frame of the application's own code: `shop/ledger.py:42 in post`."""

    def __str__(self) -> str:
        return self.words()

    def words(self, *, has_type: bool = True) -> str:
        """Say it on one line.

        :param has_type: whether the name of its class stands before its text
        """
        kind = self.type.rpartition(".")[2] if self.type.startswith("mqkit.") else self.type
        said = kind if not self.text else f"{kind}: {self.text}" if has_type else self.text
        caused = f", caused by {self.cause}" if self.cause else ""
        place = f", at {self.where}" if self.where else ""
        return shown(f"{said}{caused}", MAX_ERROR) + shown(place, MAX_ERROR)

    def as_field(self) -> dict[str, str]:
        """Return it as the field `error` of a log record."""
        parts = (("type", self.type), ("text", self.text), ("cause", self.cause))
        named = (*parts, ("where", self.where))
        return {name: shown(part, MAX_ERROR) for name, part in named if part is not None}


class ErrorReports:
    """Reports errors as one service wants them in its log."""

    def __init__(self, detail: Detail = "text", masker: Masker = DEFAULT) -> None:
        self.detail = detail
        self.masker = masker

    def of(
        self, error: BaseException, package: str | None = None, *, keeps_text: bool = False
    ) -> ErrorReport:
        """Report an error.

        :param package: the top package of the handler that raised it (`place_of`)
        :param keeps_text: whether its text is shown in any case: it was written for the log
        """
        has_texts = self.detail != "type"
        chain = [error, *islice(causes(error), MAX_CAUSES)]
        children = [child for each in chain for child in islice(_children(each), MAX_CHILDREN)]
        places = (place_of(each, package) for each in (error, *children, *chain[1:]))
        text = masked_line(error, self.masker) if has_texts or keeps_text else None
        if has_texts and (of_group := [*islice(_children(error), MAX_CHILDREN)]):
            text = f"{text}: {'; '.join(self._brief(child) for child in of_group)}"
        return ErrorReport(
            error_type(error),
            text,
            ", caused by ".join(self._brief(cause) for cause in chain[1:]) or None,
            next((place for place in places if place is not None), None),
        )

    def traceback(self, error: BaseException) -> str:
        """Format an error with its traceback, masked, and without texts if none are shown."""
        return masked_traceback(error, self.masker, with_texts=self.detail != "type")

    def log(
        self,
        logger: logging.Logger,
        level: int,
        text: str,
        *arguments: object,
        error: BaseException,
        stacklevel: int = 1,
    ) -> None:
        """Log that something failed that should not, with the error and its traceback.

        The traceback is text by then. Logging itself would show it unmasked; and it lets through
        what an application's error raises there, if that is no `Exception`: whoever logs would
        then fail in the place of what it was logging about.
        """
        if not logger.isEnabledFor(level):
            return
        report = self.of(error)
        log_with_traceback(
            logger,
            level,
            f"{text}: %s",
            *arguments,
            report,
            traceback=self.traceback(error),
            extra={"error": report.as_field()},
            stacklevel=stacklevel + 1,
        )

    def _brief(self, error: BaseException) -> str:
        kind = error_type(error)
        if self.detail == "type":
            return kind
        return f"{kind}: {masked_line(error, self.masker, MAX_CAUSE)}"


def log_with_traceback(
    logger: logging.Logger,
    level: int,
    text: str,
    *arguments: object,
    traceback: str | None,
    extra: dict[str, Any],
    stacklevel: int = 1,
) -> None:
    """Log a record whose traceback is a text already, as formatters write it below the message."""
    if not logger.isEnabledFor(level):
        return
    file, line, function, _ = logger.findCaller(stacklevel=stacklevel + 1)
    record = logger.makeRecord(
        logger.name, level, file, line, text, arguments, None, function, extra
    )
    if traceback is not None:
        record.exc_text = traceback.rstrip("\n")
    logger.handle(record)


def _children(error: BaseException) -> tuple[BaseException, ...]:
    if not isinstance(error, BaseExceptionGroup):
        return ()
    try:
        return tuple(error.exceptions)
    except BaseException:  # noqa: BLE001 - a class may do anything there
        return ()


REPORTS = ErrorReports()
"""Reports what belongs to no service."""

TYPES = ErrorReports("type")
"""Reports types and places alone, for what is no log and may be shown to anybody."""


def describe(error: BaseException) -> str:
    """Describe an error for the log on one line, masked."""
    return str(REPORTS.of(error))


def log_error(
    logger: logging.Logger, level: int, text: str, *arguments: object, error: BaseException
) -> None:
    """Log that something failed that should not, with the error and its traceback, masked."""
    REPORTS.log(logger, level, text, *arguments, error=error, stacklevel=2)


def log_problem(
    logger: logging.Logger, level: int, text: str, *arguments: object, error: BaseException | None
) -> None:
    """Log what may go wrong: an error of mqkit's by its text, any other as `log_error` does."""
    if error is None or is_ours(error):
        said = "" if error is None else masked_line(error, limit=MAX_ERROR)
        field = {} if error is None else {"error": REPORTS.of(error).as_field()}
        logger.log(level, f"{text}: %s", *arguments, said, extra=field, stacklevel=2)  # noqa: G004
    else:
        REPORTS.log(logger, level, text, *arguments, error=error, stacklevel=2)


def is_ours(error: BaseException) -> bool:
    """Whether an error is one of mqkit's, whose text says all that there is to say."""
    return type(error).__module__.startswith("mqkit.")


__all__ = [
    "DETAILS",
    "NO_TRACEBACK",
    "REPORTS",
    "TYPES",
    "Detail",
    "ErrorReport",
    "ErrorReports",
    "describe",
    "is_ours",
    "log_error",
    "log_problem",
    "log_with_traceback",
]
