"""Reads a store's URL, and shows it without what is secret in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import quote, quote_plus

from sqlalchemy import URL
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from mqkit.checks.checked import is_utf8
from mqkit.errors import ConfigurationError
from mqkit.settings import Settings

HOW_TO_WRITE = (
    "write sqlite:///path/to/file, or postgresql://user:password@host/database, where special "
    "characters of the password are percent-encoded (@ is %40)"
)

_SECRET = ("password", "sslpassword", "passphrase")
"""Parameters whose values are shown nowhere."""

MAX_PORT = 65_535

SHORTEST_SECRET = 3
"""Characters; what is shorter is in other words by chance."""


def store_url(text: str) -> URL:
    """Parse a store's URL: `sqlite:///path`, or `postgresql://user:password@host/database`.

    A URL of PostgreSQL may have the parameters that asyncpg takes of libpq's (`sslmode`, `user`,
    `password`, ...).

    :raises ConfigurationError: it is malformed, or of another database; it never quotes a password
    """
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise ConfigurationError(f"the store's URL is malformed: {HOW_TO_WRITE}") from None
    if url.drivername in ("sqlite", "sqlite+aiosqlite"):
        return _sqlite(url)
    if url.drivername in ("postgresql", "postgres", "postgresql+asyncpg"):
        return _postgres(url)
    raise ConfigurationError(
        f"a store is kept in SQLite or PostgreSQL, not {url.drivername!r}: {HOW_TO_WRITE}"
    )


def url_now(url: URL | Callable[[], str] | None) -> URL:
    """Return the URL that a store is opened with: without one, that of the environment.

    :raises ConfigurationError: there is none, or it is malformed
    """
    if url is not None:
        return store_url(url()) if callable(url) else url
    setting = Settings().store
    if setting is None:
        raise ConfigurationError(
            "the store has no URL: say Store('postgresql://...'), or set MQKIT_STORE"
        )
    return store_url(setting.get_secret_value())


def _sqlite(url: URL) -> URL:
    if url.host or url.username or url.password:
        raise ConfigurationError(
            "a store in SQLite is kept in a file of this machine, and its URL has no host: write "
            "sqlite:///path/to/file"
        )
    if url.database in (None, "", ":memory:") or url.query:
        raise ConfigurationError(
            "a store in SQLite is kept in a file, and its URL has no parameters: "
            "write sqlite:///path/to/file"
        )
    if not is_utf8(url.database or "") or "\0" in (url.database or ""):
        raise ConfigurationError(
            "the path of a store in SQLite is text in UTF-8 without NUL, as SQLite opens it"
        )
    return url.set(drivername="sqlite+aiosqlite")


def _postgres(url: URL) -> URL:
    # What follows an @ that is part of the password is taken for the host, and would be shown.
    if "@" in f"{url.host}{url.database}{url.username}":
        raise ConfigurationError(f"the store's URL has more than one @: {HOW_TO_WRITE}")
    if not url.database:
        raise ConfigurationError(f"the store's URL names no database: {HOW_TO_WRITE}")
    if url.port is not None and not 0 < url.port <= MAX_PORT:
        raise ConfigurationError(f"the store's URL has the port {url.port}; it is 1 to {MAX_PORT}")
    # What an argument of a process has that is not UTF-8.
    parts = (url.username, url.password, url.host, url.database)
    if not all(is_utf8(str(each)) for each in parts):
        raise ConfigurationError(
            f"the store's URL has a character that UTF-8 cannot write: {HOW_TO_WRITE}"
        )
    query = dict(url.query)
    # libpq's other way to write them. In their places in the URL they are known for what they are.
    user, password = _last(query.pop("user", None)), _last(query.pop("password", None))
    # Not `set`, which takes None for 'as it is'.
    return URL.create(
        "postgresql+asyncpg",
        username=url.username or user,
        password=url.password or password,
        host=url.host,
        port=url.port,
        database=url.database,
        query=query,
    )


def _last(value: Any) -> str | None:
    return value[-1] if isinstance(value, tuple) and value else value or None


def shown(url: URL) -> str:
    """Show a URL without its password, and without its parameters' values."""
    query = dict.fromkeys(url.query, "...")
    return url.set(query=query).render_as_string(hide_password=True)


def redacted(text: str, url: URL) -> str:
    """Take what is secret in the URL out of a text, however it is written there."""
    secrets = [url.password, *(_last(url.query.get(name)) for name in _SECRET)]
    for secret in secrets:
        if secret is None or len(secret) < SHORTEST_SECRET:
            continue
        for written in sorted({secret, quote(secret), quote(secret, ""), quote_plus(secret)}):
            text = text.replace(written, "***")
    return text
