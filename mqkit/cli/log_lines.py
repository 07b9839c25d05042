"""Formats the log so that only a record begins a line."""

from __future__ import annotations

import logging

from mqkit.logging.shown import shown

MAX_MESSAGE = 10_000
"""Characters of a record, and of each line of its traceback."""

INDENT = "  "
"""Before each line of a traceback: an error's text may quote a message, line ends and all."""


class LineFormatter(logging.Formatter):
    """Writes a record as one line, and its traceback as indented ones, without control characters.

    A record of the service's own is escaped, too: it may quote a message.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Format a record anew, whatever another formatter has kept of its traceback."""
        kept, record.exc_text = record.exc_text, None
        try:
            return super().format(record)
        finally:
            record.exc_text = kept

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """Format the record's own line."""
        return shown(super().formatMessage(record), MAX_MESSAGE)

    def formatException(self, ei: object) -> str:  # noqa: N802 - logging's name
        """Format the traceback."""
        return _indented(super().formatException(ei))  # type: ignore[arg-type]

    def formatStack(self, stack_info: str) -> str:  # noqa: N802 - logging's name
        """Format the stack, where the record has one."""
        return _indented(super().formatStack(stack_info))


def _indented(text: str) -> str:
    return "\n".join(f"{INDENT}{shown(line, MAX_MESSAGE)}" for line in text.split("\n"))
