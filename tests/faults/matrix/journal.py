"""The account of one row: what was published, what was run, what had its effect.

One SQLite file that the row and all its service processes write. Times are `time.monotonic()`,
which is one clock for all processes of a Linux or macOS machine.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

State = Literal["unknown", "confirmed", "refused"]
"""What the publisher was told: `unknown` is a publish that timed out, which may arrive or not;
`refused` is one that was never stored, as the error said."""

_TABLES = """
CREATE TABLE IF NOT EXISTS published (key TEXT PRIMARY KEY, state TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS runs (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL, message_id TEXT, pid INTEGER NOT NULL,
    begun REAL NOT NULL, ended REAL, redelivered INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS once (key TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS effects (key TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS dead (key TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS deaths (pid INTEGER PRIMARY KEY, at REAL);
"""

BUSY_TIMEOUT = 20.0
"""Seconds that a writer waits for the others."""


class Journal:
    """The account; each process opens it by its path. Every write is there when it returns."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._db = sqlite3.connect(
            path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False
        )
        self._db.execute("PRAGMA journal_mode=WAL")
        # It must outlive the processes, and not the machine.
        self._db.execute("PRAGMA synchronous=OFF")
        self._db.executescript(_TABLES)

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    # --- what publishers write ---------------------------------------------------------------

    def published(self, key: str, state: State) -> None:
        """Say what is known of a publish; `unknown` before it is written, then its result."""
        self._db.execute("INSERT OR REPLACE INTO published VALUES (?, ?)", (key, state))

    # --- what handlers write -----------------------------------------------------------------

    @contextlib.contextmanager
    def handling(
        self, key: str, *, message_id: str | None = None, redelivered: bool = False
    ) -> Iterator[None]:
        """One run of a handler; its end is noted however it ends, but for a killed process."""
        run = self._db.execute(
            "INSERT INTO runs (key, message_id, pid, begun, redelivered) VALUES (?, ?, ?, ?, ?)",
            (key, message_id, os.getpid(), time.monotonic(), redelivered),
        ).lastrowid
        try:
            yield
        finally:
            self._db.execute("UPDATE runs SET ended = ? WHERE id = ?", (time.monotonic(), run))

    def apply_once(self, key: str) -> None:
        """The effect of a handler without a store: keyed by the business key, so once."""
        self._db.execute("INSERT INTO once VALUES (?) ON CONFLICT DO NOTHING", (key,))

    def apply(self, key: str) -> None:
        """The effect of a handler whose inbox must keep it from having a second one."""
        self._db.execute("INSERT INTO effects VALUES (?)", (key,))

    # --- what the row writes -----------------------------------------------------------------

    def dead_lettered(self, key: str) -> None:
        """The message was found in a dead letter queue."""
        self._db.execute("INSERT INTO dead VALUES (?)", (key,))

    def died(self, pid: int, at: float | None = None) -> None:
        """A process was killed; `at` is before the signal, None if it killed itself in a run."""
        self._db.execute("INSERT OR REPLACE INTO deaths VALUES (?, ?)", (pid, at))

    # --- what the row reads ------------------------------------------------------------------

    def keys(self, state: State) -> set[str]:
        """The keys that were published and are in that state."""
        return self._set("SELECT key FROM published WHERE state = ?", state)

    def count(self) -> int:
        """Messages that were published."""
        (count,) = self._db.execute("SELECT count(*) FROM published").fetchone()
        return int(count)

    def effects(self) -> Counter[str]:
        """Each key that had its effect, with how many it had."""
        rows = self._db.execute(
            "SELECT key, count(*) FROM (SELECT key FROM effects UNION ALL SELECT key FROM once) "
            "GROUP BY key"
        )
        return Counter(dict(rows.fetchall()))

    def applied(self, key: str) -> bool:
        """Whether the key had its effect."""
        found = self._db.execute(
            "SELECT 1 FROM once WHERE key = ? UNION ALL SELECT 1 FROM effects WHERE key = ?",
            (key, key),
        )
        return found.fetchone() is not None

    def dead(self) -> Counter[str]:
        """Each key that was found dead-lettered, with how often."""
        return Counter(key for (key,) in self._db.execute("SELECT key FROM dead"))

    def unfinished(self) -> set[str]:
        """Confirmed keys that were neither applied nor dead-lettered until now."""
        return self._set(
            "SELECT key FROM published WHERE state = 'confirmed' AND key NOT IN "
            "(SELECT key FROM once UNION SELECT key FROM effects UNION SELECT key FROM dead)"
        )

    def runs(self, key: str | None = None) -> list[tuple[str, str | None, bool]]:
        """Runs of handlers in the order of their beginnings: key, message id, redelivered."""
        found = self._db.execute(
            "SELECT key, message_id, redelivered FROM runs WHERE key = ? OR ? IS NULL ORDER BY id",
            (key, key),
        )
        return [(k, message_id, bool(redelivered)) for k, message_id, redelivered in found]

    def running(self) -> int:
        """Runs that began and did not end, nor died with their process."""
        (count,) = self._db.execute(
            "SELECT count(*) FROM runs WHERE ended IS NULL AND pid NOT IN (SELECT pid FROM deaths)"
        ).fetchone()
        return int(count)

    def together(self) -> set[str]:
        """Keys that were handled twice at the same time, in whatever processes."""
        ends: dict[str, float] = {}
        found: set[str] = set()
        for key, begun, ended, died, is_dead in self._db.execute(
            "SELECT key, begun, ended, at, deaths.pid IS NOT NULL FROM runs "
            "LEFT JOIN deaths ON runs.pid = deaths.pid ORDER BY begun"
        ):
            if begun < ends.get(key, begun):
                found.add(key)
            until = ended
            if until is None:
                until = (begun if died is None else died) if is_dead else float("inf")
            ends[key] = max(until, ends.get(key, until))
        return found

    def _set(self, query: str, *values: str) -> set[str]:
        return {key for (key,) in self._db.execute(query, values)}
