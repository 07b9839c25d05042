"""Options of `mqkit publish` that say what each message has besides its body."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated

import typer
from pydantic_core import from_json

from mqkit.checks.checked import MAX_SHORT, text_problem
from mqkit.cli.options import name_and_value
from mqkit.cli.publish.journal import line_hash
from mqkit.codec import JSON
from mqkit.errors import ConfigurationError, InvalidMessageError, OptionError
from mqkit.logging.shown import shown
from mqkit.publishing.outgoing import Outgoing, to_message

HeaderOption = Annotated[
    list[str] | None,
    typer.Option(
        "--header",
        metavar="NAME=VALUE",
        help="A header of every message, a text; may be repeated.",
        show_default=False,
    ),
]
ExpirationOption = Annotated[
    float | None,
    typer.Option(
        help="Seconds after which the broker expires a message that still waits in a queue.",
        show_default=False,
    ),
]
PriorityOption = Annotated[
    int | None, typer.Option(help="The priority of every message, 0 to 255.", show_default=False)
]
TypeOption = Annotated[
    str | None,
    typer.Option("--type", help="The type of every message, a property.", show_default=False),
]
IdOption = Annotated[
    str | None,
    typer.Option(
        "--id",
        metavar="FIELD",
        help="Take each message's id from this field of its line, a text or a whole number. "
        "Default: an id that the journal gives.",
        show_default=False,
    ),
]


class LineError(ValueError):
    """A line has no message id that it could be sent under."""


@dataclass(slots=True)
class Chosen:
    """What all messages have, and where their ids are."""

    headers: Mapping[str, str] = field(default_factory=dict)
    expiration: float | None = None
    priority: int | None = None
    type: str | None = None
    id_field: str | None = None
    _lines: dict[bytes, int] = field(default_factory=dict)
    """The line of each id, by its hash: the second message of an id would count as the first."""

    def message(
        self, exchange: str, key: str, body: bytes, message_id: str, delay: float | None
    ) -> Outgoing:
        """Make the message of a line."""
        return Outgoing(
            exchange,
            key,
            body,
            message_id=message_id,
            headers=self.headers,
            content_type=JSON,
            type=self.type,
            expiration=self.expiration,
            priority=self.priority,
            delay=delay,
        )

    def check(self, exchange: str, key: str, delay: float | None) -> None:
        """Check the options before anything is sent.

        :raises ConfigurationError: no message can have what they say
        """
        try:
            to_message(self.message(exchange, key, b"null", "of every line", delay), None)
        except InvalidMessageError as error:
            raise ConfigurationError(str(error)) from error

    def id_of(self, number: int, body: bytes) -> str | None:
        """Return the id that a line, which is JSON, gives its message; None if the journal does.

        :raises LineError: it gives none, or another line's
        """
        if self.id_field is None:
            return None
        found = from_json(body, cache_strings="none")
        value = found.get(self.id_field) if isinstance(found, dict) else None
        text = str(value) if _is_whole(value) else value
        if not isinstance(text, str) or not text or text_problem(text):
            raise LineError(
                f"its field {shown(self.id_field)} is no message id: a text of 1 to {MAX_SHORT} "
                "bytes, or a whole number"
            )
        first = self._lines.setdefault(line_hash(text.encode()), number)
        if first != number:
            raise LineError(f"its message id is that of line {first}")
        return text


def _is_whole(value: object) -> bool:
    """Tell whether a value is a whole number that is not too long to be an id."""
    return isinstance(value, int) and not isinstance(value, bool) and value.bit_length() < MAX_BITS


MAX_BITS = 800
"""Of a number that is an id: 255 digits have more, and Python writes no number of 4,300 digits."""


def chosen(
    *,
    header: Sequence[str] | None,
    expiration: float | None,
    priority: int | None,
    type_: str | None,
    id_field: str | None,
) -> Chosen:
    """Make what was chosen from the options.

    :raises OptionError: a header is given twice, or is no NAME=VALUE
    """
    headers: dict[str, str] = {}
    for each in header or ():
        name, value = name_and_value(each, "--header")
        if name in headers:
            raise OptionError(f"--header {shown(name)} is given twice")
        headers[name] = value
    if id_field == "":
        raise OptionError("--id is the name of a field, not ''")
    return Chosen(headers, expiration, priority, type_, id_field)
