"""Formatters of log records: lines for a person, and JSON for what collects logs.

Both mask secrets in what others than mqkit log; mqkit has masked its own records when it made them,
and an id in those stays as it is, whatever it looks like.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from mqkit.logging.context import NAMES
from mqkit.logging.error_reports import ErrorReports
from mqkit.logging.error_texts import masked_traceback
from mqkit.logging.masking import MASK, Masker
from mqkit.logging.shown import shown

MAX_MESSAGE = 10_000
"""Characters of a record, and of each line of its traceback."""

INDENT = "  "
"""Before each line of a traceback: an error's text may quote a message, line ends and all."""

TEXT_FORMAT = "%(asctime)s %(levelname)-8s %(message)s"

COLOURS = {
    logging.DEBUG: "\x1b[2m",
    logging.WARNING: "\x1b[33m",
    logging.ERROR: "\x1b[31m",
    logging.CRITICAL: "\x1b[1;31m",
}
"""Of the name of the level, on a terminal."""

PLAIN = "\x1b[0m"

MAX_DEPTH = 4
"""Levels of a value in a record's `extra` that are written as JSON; below it is text."""

MAX_ITEMS = 100
"""Items of a list or a mapping in a record's `extra` that are written."""


class TextFormatter(logging.Formatter):
    """Writes a record as one line, and its traceback as indented ones, without control characters.

    A record of the service's own is escaped, too: it may quote a message. Where it was logged by a
    handler, and a `FieldsFilter` has seen it, the line ends with the message that was handled; and
    where that was a part of a trace, with the ids of trace and span.

    :param masks: names of fields and compiled patterns that are masked, as in `Service(masks=...)`
    :param colours: whether the name of the level is coloured
    """

    def __init__(
        self,
        fmt: str | None = None,
        datefmt: str | None = None,
        *,
        masks: Iterable[str | re.Pattern[str]] = (),
        colours: bool = False,
    ) -> None:
        super().__init__(fmt or TEXT_FORMAT, datefmt)
        self._masker = Masker(masks)
        self._colours = colours

    def format(self, record: logging.LogRecord) -> str:
        """Format a record anew, whatever another formatter has kept of its traceback."""
        kept = record.exc_text
        if record.exc_info:
            record.exc_text = None
        elif kept:
            record.exc_text = _indented(kept)
        try:
            return super().format(record)
        finally:
            record.exc_text = kept

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """Format the record's own line."""
        line = super().formatMessage(record)
        if not _is_ours(record):
            line = self._masker.mask(line)
        line = shown(line, MAX_MESSAGE)
        if not _is_ours(record):
            line += _handled(record)
        line += _traced(record)
        colour = COLOURS.get(record.levelno) if self._colours else None
        if colour is None:
            return line
        return line.replace(record.levelname, f"{colour}{record.levelname}{PLAIN}", 1)

    def formatException(self, ei: object) -> str:  # noqa: N802 - logging's name
        """Format the traceback."""
        error = ei[1] if isinstance(ei, tuple) else None
        return _indented(masked_traceback(error, self._masker).rstrip("\n")) if error else "None"

    def formatStack(self, stack_info: str) -> str:  # noqa: N802 - logging's name
        """Format the stack, where the record has one."""
        return _indented(self._masker.mask(super().formatStack(stack_info)))


class JsonFormatter(logging.Formatter):
    """Writes a record as one JSON object on one line.

    Its members: `time` (ISO 8601, UTC), `level`, `logger`, `message`; the fields of the message
    that was handled, as far as the record has them (`FieldsFilter`); what the record was given as
    `extra`; of an error `error`, an object of `type`, `text`, `cause` and `where`; and `traceback`.

    `process` is the name of the process, where it has one: `ledger.2` of `mqkit run --processes 2`.

    :param masks: names of fields and compiled patterns that are masked, as in `Service(masks=...)`
    """

    def __init__(self, *, masks: Iterable[str | re.Pattern[str]] = ()) -> None:
        super().__init__()
        self._masker = Masker(masks)
        self._reports = ErrorReports(masker=self._masker)

    def format(self, record: logging.LogRecord) -> str:
        """Format a record as JSON; what JSON has no form for is written as text."""
        mask = _as_it_is if _is_ours(record) else self._masker.mask
        moment = datetime.fromtimestamp(record.created, UTC)
        members: dict[str, Any] = {
            "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": mask(record.getMessage()),
        }
        if record.processName not in (None, "MainProcess"):
            members["process"] = record.processName
        own = record.__dict__
        members |= {name: own[name] for name in NAMES if own.get(name) is not None}
        for name, value in own.items():
            if name not in _OF_EVERY_RECORD and name not in members and value is not None:
                ours = _is_ours(record)
                members[name] = value if ours else self._plain(value, name, MAX_DEPTH)
        members |= self._error_of(record)
        if record.stack_info:
            members["stack"] = self._masker.mask(record.stack_info)
        line = json.dumps(members, ensure_ascii=False, default=_text)
        # What moves a cursor, or is half a character, is escaped.
        return line if line.isprintable() else json.dumps(members, default=_text)

    def _error_of(self, record: logging.LogRecord) -> dict[str, Any]:
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            return {
                "error": self._reports.of(error).as_field(),
                "traceback": self._reports.traceback(error).rstrip("\n"),
            }
        if not record.exc_text:
            return {}
        return {"traceback": self._masker.mask(record.exc_text)}

    def _plain(self, value: Any, name: str, depth: int) -> Any:
        """Make JSON's values of what an application has given, without secrets."""
        if self._masker.hides(name):
            return MASK
        if value is None or isinstance(value, bool | int | float):
            return value if isinstance(value, bool) or value is None else self._number(value)
        if depth and isinstance(value, Mapping):
            items = [*value.items()][:MAX_ITEMS]
            named = [(_text(key), each) for key, each in items]
            return {key: self._plain(each, key, depth - 1) for key, each in named}
        if depth and isinstance(value, list | tuple | set | frozenset):
            return [self._plain(each, "", depth - 1) for each in [*value][:MAX_ITEMS]]
        return self._masker.mask(_text(value))

    def _number(self, value: float) -> Any:
        text = str(value)
        masked = self._masker.mask(text)
        if masked != text or value != value or value in _INFINITE:  # noqa: PLR0124 - NaN
            return masked
        return value


_INFINITE = (float("inf"), float("-inf"))


def _is_ours(record: logging.LogRecord) -> bool:
    return record.name.startswith("mqkit.") and not record.name.startswith("mqkit.embedded.")


def _text(value: object) -> str:
    try:
        return str.__add__("", str(value))
    except BaseException:  # noqa: BLE001 - an application's `__str__` may raise anything
        return "<str() failed>"


def _as_it_is(text: str) -> str:
    return text


def _handled(record: logging.LogRecord) -> str:
    """Say which message was handled when a record was logged; '' if none was."""
    own = record.__dict__
    if own.get("handler") is None:
        return ""
    if (size := own.get("batch_size")) is not None:
        return f" [{shown(own['handler'])}: a batch of {size} messages]"
    which = f"message {shown(own.get('message_id'))}, attempt {own.get('attempt')}"
    return f" [{shown(own['handler'])}: {which}]"


def _traced(record: logging.LogRecord) -> str:
    """Say of which trace and span a record is a part; '' if of none."""
    own = record.__dict__
    if own.get("trace_id") is None:
        return ""
    return f" [trace {shown(own['trace_id'])}, span {shown(own.get('span_id'))}]"


def _indented(text: str) -> str:
    return "\n".join(f"{INDENT}{shown(line, MAX_MESSAGE)}" for line in text.split("\n"))


_OF_EVERY_RECORD = frozenset(
    {*logging.makeLogRecord({}).__dict__, *("message", "asctime", "taskName")}
)
"""Attributes that logging itself sets."""
