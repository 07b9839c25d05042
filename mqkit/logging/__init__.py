"""What goes to a log: fields of the message that is handled, formatters, errors without secrets."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mqkit.logging.context import FieldsFilter, fields
    from mqkit.logging.formatters import JsonFormatter, TextFormatter

__all__ = ["FieldsFilter", "JsonFormatter", "TextFormatter", "fields"]

_HOMES = {
    "FieldsFilter": "mqkit.logging.context",
    "JsonFormatter": "mqkit.logging.formatters",
    "TextFormatter": "mqkit.logging.formatters",
    "fields": "mqkit.logging.context",
}
"""Where each public name is. It is imported when it is first asked for: `mqkit.errors` needs a part
of this package, and nothing of Python's `logging`."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
