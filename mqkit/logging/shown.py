"""Shows text that came from outside: it moves no cursor, forges no line and fills no screen."""

from __future__ import annotations

MAX_SHOWN = 200
"""Characters of one value that are shown; RabbitMQ's own short strings have up to 255 bytes."""


def shown(value: object, limit: int = MAX_SHOWN) -> str:
    """Escape a value for a log, an error or a terminal, and cut it where it is long.

    Whatever is not printable is written as Python would: line ends, terminal escapes, characters
    that change the direction of writing, lone surrogates. None is shown as 'None'.

    :param limit: characters of the result, before the mark of the cut
    """
    text = value if isinstance(value, str) else str(value)
    if len(text) <= limit and text.isprintable():
        return text
    # Cut before as well: a text of megabytes is not escaped to be thrown away.
    escaped = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[: limit + 1])
    return escaped if len(escaped) <= limit else f"{escaped[:limit]} [cut]"
