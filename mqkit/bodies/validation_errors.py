"""Writes the text of a `DecodeError`: which fields of a body are wrong, quoting no value.

The text of an error of pydantic can quote the input, and so can what a validator of the
application says; neither is taken. A text here is pydantic's own template, filled with what the
type says, or names the kind of the error alone.
"""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError
from pydantic_core import PydanticKnownError

from mqkit.bodies.decimals import AMBIGUOUS, EXACT, PLAIN, REFUSED

MAX_SHOWN = 20
"""How many errors are shown; the rest are counted."""

MAX_BUILT = 1000
"""Errors of which a list is made; pydantic makes it of all or of none."""

MAX_PART = 64
"""Characters of a field's name, or of a key."""

MAX_PLACE = 200
"""Characters of all names that lead to a value."""

MAX_TEXT = 300
"""Characters of what is wrong with one value."""

_WORDS = {
    AMBIGUOUS: (
        "two numbers of the body are the same float, and differ in digits that it cannot hold; "
        "they must be written as strings"
    ),
    "dict_type": "Input should be an object",
    "list_type": "Input should be a valid array",
    "model_type": "Input should be an object",
    # Pydantic's own words quote the input, or what an object of the application said of it.
    "bytes_invalid_encoding": "Data is not in the encoding that is asked for",
    "get_attribute_error": "Error extracting attribute",
    "iteration_error": "Error iterating over object",
    "mapping_type": "Input should be a valid mapping",
    "timezone_offset": "Another timezone offset is required",
    "url_parsing": "Input should be a valid URL",
    "url_syntax_violation": "Input should be a valid URL",
    "uuid_parsing": "Input should be a valid UUID",
}

_NOT_IN_A_PLACE = frozenset({PLAIN, EXACT, REFUSED})


def explain(
    title: str, error: ValidationError, few: ValidationError | None, *, partly: bool
) -> str:
    """Say what is wrong with a body, in a text that is short whatever the body holds.

    :param title: what the body should be
    :param error: what validation said
    :param few: an error of the same body with few of its errors, to show instead of many
    :param partly: whether there may be more errors than were looked for
    """
    shown = error if few is None else few
    lines = []
    if shown.error_count() <= MAX_BUILT:
        listed = shown.errors(include_url=False, include_input=False)
        lines = [_line(item) for item in listed[:MAX_SHOWN]]
    left = error.error_count() - len(lines)
    if left > 0:
        lines.append(f"and {left} more" if lines else f"it has {left} errors")
    if partly:
        lines.append("there may be more: it is large, and a list is read up to what is wrong in it")
    return f"the body is no valid {cut(title, MAX_PLACE)}: " + "; ".join(lines)


def place(parts: Any) -> str:
    """Name a place in a body by its fields, keys and numbers, which may be anybody's."""
    named = [cut(str(part), MAX_PART) for part in parts if part not in _NOT_IN_A_PLACE]
    return cut(".".join(named), MAX_PLACE) or "body"


def cut(text: str, most: int) -> str:
    """Cut a text that may be anybody's, and put it on one line."""
    shown = text if len(text) <= most else f"{text[: most - 1]}…"
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in shown)


def _line(item: Any) -> str:
    return f"{place(item['loc'])}: {cut(_text(item['type'], item.get('ctx')), MAX_TEXT)}"


def _text(kind: str, context: dict[str, Any] | None) -> str:
    if kind in _WORDS:
        return _WORDS[kind]
    context = context or {}
    if kind in ("value_error", "assertion_error"):
        raised = context.get("error")
        name = type(raised).__name__ if isinstance(raised, BaseException) else kind
        return f"refused by a validator ({cut(name, MAX_PART)})"
    if kind == "union_tag_invalid":
        return f"Input tag found using {context.get('discriminator')} is none of those expected"
    try:
        return PydanticKnownError(kind, context or None).message()  # type: ignore[arg-type]
    except (KeyError, TypeError):
        return f"refused by a validator ({cut(kind, MAX_PART)})"
