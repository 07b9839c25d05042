"""Opens the broker's SQLite file: locks it, brings its tables up to date, keeps it small."""

from __future__ import annotations

import os
import sqlite3
import stat
import sys
from pathlib import Path

from mqkit.embedded.errors import DataError

FILE = "mqkit-broker.sqlite"

APPLICATION = int.from_bytes(b"mqkb")
"""SQLite's `application_id`: another program's file is left alone."""

VERSION = 3
"""Of the tables below; a file of a later version is left alone."""

OLDER = 2
"""The version that is brought to this one."""

PRIMARY_CODE = 0xFF
"""SQLite's extended result codes have the plain one in their lowest octet."""

MOVE = "put back a copy, or move it away to begin with an empty one"

INCREMENTAL = 2
"""The `auto_vacuum` under which free pages are given back when that is asked for."""

WAL_PAGES = 256
"""Pages of SQLite's log, 1 MiB, before they are put into the file; its own default is 1,000."""

SPARE_PAGES = 256
"""Free pages that the file keeps, 1 MiB: the next messages need them."""

SHRINK_PAGES = 512
"""Pages that are given back at a time, so that nothing waits long for it."""

ENTRIES = (
    """CREATE TABLE entries (
        queue INT, number INT, exchange TEXT, routing_keys TEXT, header BLOB, body BLOB,
        deaths TEXT, priority INT, expires_at REAL, delivery_count INT, acquired_count INT
    )""",
    "CREATE UNIQUE INDEX entries_of ON entries (queue, number)",
)
# With a rowid, and thus in the order of coming: in a table that is sorted by something else a row
# may take a quarter of a page and no more, and a body of 1 KiB a page of its own besides.

BINDINGS = """CREATE INDEX bindings_of
    ON bindings (vhost, source, kind, destination, routing_key)"""

SCHEMA = (
    "CREATE TABLE vhosts (name TEXT PRIMARY KEY) WITHOUT ROWID",
    """CREATE TABLE exchanges (
        vhost TEXT, name TEXT, type TEXT, auto_delete INT, internal INT, arguments BLOB,
        PRIMARY KEY (vhost, name)
    ) WITHOUT ROWID""",
    """CREATE TABLE queues (
        position INTEGER PRIMARY KEY, vhost TEXT, name TEXT, auto_delete INT, arguments BLOB,
        UNIQUE (vhost, name)
    )""",
    """CREATE TABLE bindings (
        position INTEGER PRIMARY KEY, vhost TEXT, source TEXT, kind TEXT, destination TEXT,
        routing_key TEXT, arguments BLOB
    )""",
    BINDINGS,
    *ENTRIES,
)

MIGRATION = (
    "ALTER TABLE entries RENAME TO entries_before",
    *ENTRIES,
    """INSERT INTO entries
        SELECT q.position, e.number, e.exchange, e.routing_keys, e.header, e.body,
            nullif(e.deaths, '[]'), e.priority, e.expires_at, e.delivery_count, e.acquired_count
        FROM entries_before e JOIN queues q ON q.vhost = e.vhost AND q.name = e.queue
        ORDER BY q.position, e.number""",
    "DROP TABLE entries_before",
    "DROP INDEX bindings_of",
    BINDINGS,
)


def open_file(directory: Path, *, fsync: bool) -> sqlite3.Connection:
    """Open the broker's file in a directory; both are made where they are not there.

    Nobody else on this machine may read it: it holds messages.

    :raises DataError: it cannot be used: not a directory, not writable, in use, not ours
    """
    path = directory / FILE
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=stat.S_IRWXU)
        # SQLite makes its other files with the mode of this one.
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, stat.S_IRUSR | stat.S_IWUSR))
        database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    except (OSError, sqlite3.Error) as error:
        raise DataError(
            f"the data directory {directory} cannot be used: {error}; name one that this "
            "user may write to"
        ) from error
    try:
        _prepare(database, path, fsync=fsync)
    except (OSError, sqlite3.Error) as error:
        database.close()
        raise DataError(f"the broker's file {path} cannot be used: {advice(error)}") from error
    except DataError:
        database.close()
        raise
    return database


def _prepare(database: sqlite3.Connection, path: Path, *, fsync: bool) -> None:
    execute = database.execute
    execute("PRAGMA busy_timeout=0")
    execute("PRAGMA locking_mode=EXCLUSIVE")
    # Before anything is changed in a file that may be somebody else's.
    _version(database, path)
    _make_private(path)
    # In a new file it must come first; in one that has tables, VACUUM carries it out.
    execute(f"PRAGMA auto_vacuum={INCREMENTAL}")
    execute("PRAGMA journal_mode=WAL")
    # A confirm says that the message is on disk.
    execute(f"PRAGMA synchronous={'FULL' if fsync else 'OFF'}")
    execute(f"PRAGMA wal_autocheckpoint={WAL_PAGES}")
    execute("BEGIN EXCLUSIVE")
    before = _version(database, path)
    if before != VERSION:
        for statement in MIGRATION if before == OLDER else SCHEMA:
            execute(statement)
        execute(f"PRAGMA application_id={APPLICATION}")
        execute(f"PRAGMA user_version={VERSION}")
    execute("COMMIT")
    if before == OLDER or _number(database, "auto_vacuum") != INCREMENTAL:
        execute("VACUUM")


def _version(database: sqlite3.Connection, path: Path) -> int:
    """Return the version of the file's tables; 0 for an empty file.

    :raises DataError: it has something else than this broker's data
    """
    version = _number(database, "user_version")
    application = _number(database, "application_id")
    (tables,) = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if not version and not tables and not application:
        return 0
    if application != APPLICATION or version not in (OLDER, VERSION):
        raise DataError(
            f"{path} is not a file of this version's broker; name another directory, or move it "
            "away"
        )
    return version


def _make_private(path: Path) -> None:
    """Take others' permissions off a file that was made before files were made private."""
    if sys.platform != "win32":  # where they are inherited from the folder
        status = path.stat()
        others = stat.S_IMODE(status.st_mode) & (stat.S_IRWXG | stat.S_IRWXO)
        if others and status.st_uid == os.geteuid():
            path.chmod(stat.S_IRUSR | stat.S_IWUSR)


def shrink(database: sqlite3.Connection) -> bool:
    """Give back some of a file's pages if most are free; False if there is no more to do."""
    free = _number(database, "freelist_count")
    if free <= SPARE_PAGES or 2 * free <= _number(database, "page_count"):
        return False
    # As a script: `execute` takes one step of it, which is one page.
    database.executescript(f"PRAGMA incremental_vacuum({SHRINK_PAGES})")
    # Only then is the file itself as small as its pages are few.
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return True


def advice(error: Exception) -> str:
    """Put an error of SQLite into words, and say what to do about it."""
    code = error.sqlite_errorcode & PRIMARY_CODE if isinstance(error, sqlite3.Error) else 0
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return "another broker uses it; stop that one, or name another directory"
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return f"it is damaged, or no broker's ({error}); {MOVE}"
    return f"{error}; name a directory that this user may write to"


def _number(database: sqlite3.Connection, pragma: str) -> int:
    return int(database.execute(f"PRAGMA {pragma}").fetchone()[0])
