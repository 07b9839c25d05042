"""What goes to a log: fields of the message that is handled, formatters, errors without secrets."""

from mqkit.logging.context import FieldsFilter, fields
from mqkit.logging.formatters import JsonFormatter, TextFormatter

__all__ = ["FieldsFilter", "JsonFormatter", "TextFormatter", "fields"]
