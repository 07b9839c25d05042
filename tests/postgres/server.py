"""The interface of a PostgreSQL server to test on, and the one of a URL."""

from __future__ import annotations

import abc
import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, ClassVar, Literal, NoReturn, Self
from urllib.parse import SplitResult, quote, urlsplit, urlunsplit

from mqkit.errors import ConfigurationError, MqkitError

Kind = Literal["url", "node", "container"]

SCHEME = "postgresql+asyncpg"
"""What SQLAlchemy calls PostgreSQL through asyncpg."""

SCHEMES = (SCHEME, "postgresql", "postgres")

USER = "mqkit"
"""The superuser of a server that is started here."""

DATABASE = "postgres"
"""The database that every server has from the beginning."""

URL_TIMEOUT = 15.0
"""Seconds for a server that somebody else started to answer; it should be up already."""

STATEMENT_TIMEOUT = 60.0
"""Seconds that connecting to the server and one statement may take each."""

POLL_INTERVAL = 0.05
"""Seconds between two attempts while a server starts."""


HAS_STRATEGIES = 15
"""The first PostgreSQL that writes a new database into its log, unless it is told to copy files."""


class PostgresError(MqkitError):
    """The root of what goes wrong with a PostgreSQL server for tests."""

    has_lines = True


class PostgresNotFoundError(PostgresError):
    """No PostgreSQL is to be had; the message says how to provide one, for each way."""


class PostgresStartError(PostgresError):
    """A server was found but did not come up; the message holds the end of its log."""


class PostgresControlError(PostgresError):
    """A server could not be told what a test asked for (a statement, kill, stop, start, pause)."""


class PostgresServer(abc.ABC):
    """A running server; a context manager that ends, on leaving, what was started for it.

    `url` is the one that SQLAlchemy takes, of the database "postgres" (it holds the password: do
    not log it), `version` is what the server says of itself ("15.13"), `label` is short enough for
    a test's id.
    """

    kind: ClassVar[Kind]
    label: str
    url: str
    version: str
    copies_files = False
    """Databases are made by copying files, which is cheaper where no file is synced to disk."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.label}: PostgreSQL {self.version}>"

    def url_of(self, database: str) -> str:
        """Return the URL of one of its databases, which need not exist."""
        return urlunsplit(urlsplit(self.url)._replace(path=f"/{quote(database, safe='')}"))

    def create_database(self, name: str) -> str:
        """Make an empty database; returns its URL.

        :raises PostgresControlError: there is one of that name, or the server does not answer
        """
        # template0: nobody is connected to it, which CREATE DATABASE would wait for.
        statement = f"CREATE DATABASE {_quoted(name)} TEMPLATE template0"
        if self.copies_files and int(self.version.partition(".")[0]) >= HAS_STRATEGIES:
            statement += " STRATEGY file_copy"
        self._execute(statement)
        return self.url_of(name)

    def drop_database(self, name: str) -> None:
        """Delete a database, and end the connections to it; there may be none of that name.

        :raises PostgresControlError: the server refused, or does not answer
        """
        self._execute(f"DROP DATABASE IF EXISTS {_quoted(name)} WITH (FORCE)")

    @abc.abstractmethod
    def kill(self) -> None:
        """End all its processes with SIGKILL at once; returns when they are gone.

        What was committed with `fsync` is on disk, and `start` recovers it.

        :raises PostgresControlError: this server is not ours to kill
        """

    @abc.abstractmethod
    def stop(self) -> None:
        """Shut down in order, ending all connections (a 'fast' shutdown); returns when it is gone.

        :raises PostgresControlError: this server is not ours to stop, or it did not stop
        """

    @abc.abstractmethod
    def start(self) -> None:
        """Start it again on the same port and data; returns when it answers a query.

        Does nothing where it runs, or is paused.

        :raises PostgresControlError: this server is not ours to start
        :raises PostgresStartError: it did not come up
        """

    @abc.abstractmethod
    def pause(self) -> None:
        """Stop all its processes where they are (SIGSTOP): it accepts and answers no more.

        :raises PostgresControlError: this server is not ours to pause, or it is not running
        """

    @abc.abstractmethod
    def resume(self) -> None:
        """Let the processes go on (SIGCONT); does nothing where they were not paused.

        :raises PostgresControlError: this server is not ours to resume
        """

    @abc.abstractmethod
    def close(self) -> None:
        """End what was started and remove its data; may be called twice."""

    def _execute(self, statement: str) -> None:
        try:
            query(self.url, statement)
        except Unanswered as exc:
            raise PostgresControlError(f"{statement}: {exc}") from exc


class UrlPostgres(PostgresServer):
    """A server that runs already; it is used and left as it is, but for what tests create."""

    kind = "url"

    def __init__(self, url: str) -> None:
        """Connect once, to see that it is there.

        :raises PostgresStartError: nothing answers that lets this user in
        :raises mqkit.errors.ConfigurationError: the URL is malformed
        """
        self.label = "url"
        self.url = urlunsplit(parse_url(url)._replace(scheme=SCHEME))
        self.version = "unknown"
        self.version = wait_until_ready(self.url, timeout=URL_TIMEOUT)

    def kill(self) -> None:
        self._refuse("kill")

    def stop(self) -> None:
        self._refuse("stop")

    def start(self) -> None:
        self._refuse("start")

    def pause(self) -> None:
        self._refuse("pause")

    def resume(self) -> None:
        self._refuse("resume")

    def close(self) -> None:
        """Do nothing: the server was there before and stays."""

    @staticmethod
    def _refuse(verb: str) -> NoReturn:
        raise PostgresControlError(
            f"cannot {verb} the server of MQKIT_TEST_POSTGRES: somebody else runs it; unset the "
            "variable to let the tests start one of their own"
        )


class Unanswered(Exception):  # noqa: N818 - it never leaves this package
    """A query got no answer, or was refused; its text goes into another error's."""


def parse_url(url: str) -> SplitResult:
    """Check a URL of a PostgreSQL server.

    :raises mqkit.errors.ConfigurationError: it is none; the message never holds its password
    """
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES or not parts.hostname:
        raise ConfigurationError(
            "MQKIT_TEST_POSTGRES is postgresql://user:password@host:port/database, "
            f"not a URL of scheme {parts.scheme!r}"
        )
    return parts


def wait_until_ready(
    url: str, *, timeout: float, ended: Callable[[], str | None] = lambda: None
) -> str:
    """Wait until a server answers a query; returns its version.

    :param timeout: seconds
    :param ended: says why the server can no longer come up, None while it can
    :raises PostgresStartError: it did not within `timeout`, or `ended` gave a reason
    """
    deadline = time.monotonic() + timeout
    while True:
        try:
            return str(query(url, "SHOW server_version")).split()[0]
        except Unanswered as exc:
            reason = ended()
            if reason is None and time.monotonic() >= deadline:
                reason = f"no PostgreSQL within {timeout:.0f} s"
            if reason is not None:
                raise PostgresStartError(f"{reason}; the last attempt: {exc}") from exc
        time.sleep(POLL_INTERVAL)


def query(url: str, statement: str) -> Any:
    """Run one statement outside of a transaction; returns its first value.

    It may be called where an event loop runs, which it holds up.

    :raises Unanswered: the server is not there, or refused
    """
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(_query(url, statement))).result()


async def _query(url: str, statement: str) -> Any:
    try:
        import asyncpg  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as exc:
        raise PostgresNotFoundError(
            f"{exc.name} is not installed: pip install 'mqkit[postgres]'"
        ) from exc
    dsn = urlunsplit(urlsplit(url)._replace(scheme="postgresql"))
    try:
        connection = await asyncpg.connect(dsn, timeout=STATEMENT_TIMEOUT)
        try:
            return await connection.fetchval(statement, timeout=STATEMENT_TIMEOUT)
        finally:
            await connection.close(timeout=STATEMENT_TIMEOUT)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as exc:
        raise Unanswered(str(exc) or type(exc).__name__) from exc


def _quoted(name: str) -> str:
    """Quote an identifier (PostgreSQL 15, section 4.1.1 "Identifiers and Key Words")."""
    return '"' + name.replace('"', '""') + '"'
