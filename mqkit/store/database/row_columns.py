"""Says what a column of a table takes, as far as it can be known before the database is asked.

What is not refused here is refused where the row is written, by an error that names neither its
message's value nor always its column: an integer of 64 bits, NUL, a time with a zone.
"""

from __future__ import annotations

import datetime as dt
import decimal
import sqlite3
import uuid
from collections.abc import Callable
from typing import Any

from sqlalchemy import Column, types
from sqlalchemy.engine import Dialect

from mqkit.checks.checked import is_utf8
from mqkit.errors import RowError

_Kinds = tuple[type, ...]

_BYTES: _Kinds = (bytes, bytearray, memoryview)

_PLAIN: tuple[tuple[type[types.TypeEngine[Any]], _Kinds, types.TypeEngine[Any] | None], ...] = (
    (types.Enum, (), None),
    (types.String, (str,), types.Text()),
    (types.SmallInteger, (int,), types.SmallInteger()),
    (types.BigInteger, (int,), types.BigInteger()),
    (types.Integer, (int,), types.Integer()),
    (types.Boolean, (), types.Boolean()),
    (types.Double, (float, int, decimal.Decimal), types.Double()),
    (types.Float, (float, int, decimal.Decimal), types.Double()),
    (types.Numeric, (decimal.Decimal, int, float), types.Numeric()),
    (types.LargeBinary, (), types.LargeBinary()),
    (types.Uuid, (uuid.UUID, str), types.Uuid()),
    (types.Date, (dt.date,), types.Date()),
    (types.Time, (dt.time, dt.datetime), None),
)
"""The values that a type takes which converts nothing, and the type of the elements of its array.

Without a length or a precision: a cast to those cuts off what does not fit, and says nothing."""

Limit = tuple[Callable[[Any], bool], str]
"""A check whether a column can keep a value of its type, and words for what it keeps."""


class RowColumn:
    """Checks and converts the values of one column."""

    __slots__ = ("_convert", "_kinds", "_takes_none", "column", "element", "key", "limit")

    def __init__(self, of: Column[Any], dialect: Dialect) -> None:
        """Look at a column's type as a database has it."""
        self.column = of
        self.key = of.key
        stored: Any = of.type.dialect_impl(dialect)
        self._convert: Callable[[Any], Any] | None = stored.bind_processor(dialect)
        decorated = isinstance(stored, types.TypeDecorator)
        base: Any = stored.type_engine(dialect) if decorated else stored
        self._kinds, self.element = _known(base)
        if self._convert is not None and (decorated or not isinstance(base, types.Uuid)):
            # It says itself what it takes. That of UUIDs takes whatever has `hex`, as bytes do.
            self._kinds = ()
        if of.type._has_bind_expression:  # noqa: SLF001 - there is no public way
            self.element = None
        self._takes_none = bool(of.nullable)
        self.limit: Limit | None = _limit(base, dialect)
        """None: whatever its type takes is within it."""

    def takes_as_it_is(self, value: Any) -> bool:
        """Tell whether any value of the type of this one, which it takes, needs no look.

        That it is within the limit is to be seen of each all the same.
        """
        return self._convert is None and (value is None or bool(self._kinds))

    def taken(self, value: Any) -> Any:
        """Return a value as the driver takes it.

        :raises RowError: the column cannot hold it
        """
        if hasattr(value, "__clause_element__") or hasattr(value, "compile"):
            raise RowError(
                f"{self.what}: a row that is added has values and no SQL expressions; "
                "execute(insert(table).values(...)) takes one"
            )
        if value is not None and self._kinds and not isinstance(value, self._kinds):
            kinds = " or ".join(kind.__name__ for kind in self._kinds)
            raise RowError(f"{self.what} takes {kinds}, not {kind_of(value)}")
        return self.converted(value)

    def converted(self, value: Any) -> Any:
        """Return a value of a type that the column takes, as `taken` does.

        :raises RowError: the column cannot hold it
        """
        if self._convert is not None:
            try:
                value = self._convert(value)
            except Exception as error:
                raise RowError(f"{self.what} does not take this {_name(value)}") from error
        if value is None:
            if self._takes_none:
                return None
            raise RowError(f"{self.what} takes no None: it is not nullable")
        self.check_limit(value)
        return value

    def check_limit(self, value: Any) -> None:
        """Refuse a value that is not within the limit.

        :raises RowError: it is not
        """
        if self.limit is not None and not self.limit[0](value):
            raise RowError(f"{self.what} does not take this {_name(value)}: {self.limit[1]}")

    @property
    def what(self) -> str:
        """Name it, and never a value: a card's number must not get into a log."""
        return f"column {self.column.table.fullname}.{self.key} ({self.column.type!r})"


def kind_of(value: object) -> str:
    """Say what a value is, and not which."""
    return f"a value of {_name(value)}"


def _name(value: object) -> str:
    return type(value).__name__


def _known(of: types.TypeEngine[Any]) -> tuple[_Kinds, types.TypeEngine[Any] | None]:
    for kind, kinds, element in _PLAIN:
        if isinstance(of, kind):
            return kinds, element
    if isinstance(of, types.DateTime):
        return (dt.datetime,), types.DateTime(timezone=of.timezone)
    if of._type_affinity is types.Interval:  # noqa: SLF001 - PostgreSQL's own is no Interval
        return (dt.timedelta,), None
    return (), None


def _limit(of: Any, dialect: Dialect) -> Limit | None:
    """Return the limit of a type in a database; None: it has none, or one that only that knows."""
    if dialect.name == "sqlite":
        return _SQLITE
    if isinstance(of, types.String):
        return _is_text, "PostgreSQL keeps no NUL and no half of a character"
    if isinstance(of, types.Integer):
        return _of_integer(of)
    if isinstance(of, types.LargeBinary):
        return _is_binary, "it is no bytes"
    return _of_asyncpg(of) if dialect.driver == "asyncpg" else None


def _of_integer(of: types.Integer) -> Limit:
    bits = 16 if isinstance(of, types.SmallInteger) else 32
    most = (1 << ((64 if isinstance(of, types.BigInteger) else bits) - 1)) - 1
    least = -most - 1

    def holds(value: Any) -> bool:
        return not isinstance(value, int) or least <= value <= most

    return holds, f"it is none from {least} to {most}"


def _of_asyncpg(of: Any) -> Limit | None:
    """Return what asyncpg, which encodes values itself, does not take."""
    if isinstance(of, types.DateTime) and not of.timezone:
        return _is_naive, "it has a time zone, which the column has not"
    if isinstance(of, types.Time) and of.timezone:
        return _is_aware, "it has no time zone"
    if isinstance(of, types.Float):
        return _is_float, "it is too large"
    return None


# These are asked of each row: what is usual comes first.
def _is_text(value: Any) -> bool:
    if not isinstance(value, str):
        return True
    return "\0" not in value and (value.isascii() or is_utf8(value))


def _is_binary(value: Any) -> bool:
    if value is None or isinstance(value, _BYTES):
        return True
    try:
        memoryview(value)
    except TypeError:
        return False
    return True


def _is_naive(value: Any) -> bool:
    return value is None or getattr(value, "tzinfo", None) is None


def _is_aware(value: Any) -> bool:
    return value is None or getattr(value, "tzinfo", None) is not None


def _is_float(value: Any) -> bool:
    if not isinstance(value, int):
        return True
    try:
        float(value)
    except OverflowError:
        return False
    return True


_INTEGERS = 1 << 63
"""From its negative on, and below it, are the integers that SQLite keeps."""


def _is_of_sqlite(value: Any) -> bool:
    """Tell whether the driver of SQLite binds a value."""
    if isinstance(value, str):
        return value.isascii() or is_utf8(value)
    if isinstance(value, int):
        return -_INTEGERS <= value < _INTEGERS
    if value is None or isinstance(value, (float, *_BYTES)):
        return True
    return hasattr(value, "__conform__") or (
        (type(value), sqlite3.PrepareProtocol) in sqlite3.adapters
    )


_SQLITE = (
    _is_of_sqlite,
    "SQLite keeps integers of 64 bits, text without half of a character, floats and bytes",
)
