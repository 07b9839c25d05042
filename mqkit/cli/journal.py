"""Which lines of a file are published: kept in a file of its own, so that a rerun can go on.

One JSON object a line. The first says what the journal is of; each other is one confirmed line
with a hash of its bytes. It is written behind the confirms, so after a crash of this process the
last moments of confirmed lines may be missing, and those are sent again under the same id.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from mqkit.errors import ConfigurationError

VERSION = 1

_NAMESPACE = uuid.UUID("6f1a3c1e-8e0f-4c0b-9a55-0d1c1f0a7b52")


class JournalError(ConfigurationError):
    """A journal cannot be used for this run; the message says why and what to do."""


def line_hash(line: bytes) -> str:
    """Identifies a line's content."""
    return hashlib.blake2b(line, digest_size=12).hexdigest()


def message_id(exchange: str, routing_key: str, number: int, digest: str) -> str:
    """The same line of the same file to the same place is the same message, run after run."""
    return str(uuid.uuid5(_NAMESPACE, json.dumps([exchange, routing_key, number, digest])))


class Journal:
    """The confirmed lines of one file to one exchange and routing key; a context manager.

    :raises JournalError: the file is a journal of something else, or none at all
    """

    def __init__(self, path: Path, *, exchange: str, routing_key: str) -> None:
        self.path = path
        self._header = {"journal": VERSION, "exchange": exchange, "routing_key": routing_key}
        self._done: dict[int, str] = {}
        self._file: IO[str] | None = None
        self._end = 0
        if path.exists():
            self._read()

    def __len__(self) -> int:
        return len(self._done)

    def has(self, number: int, digest: str) -> bool:
        """Whether that line, with that content, is confirmed."""
        return self._done.get(number) == digest

    def forget(self) -> None:
        """Begin anew, with no line confirmed."""
        self._done.clear()
        self._end = 0

    def add(self, number: int, digest: str) -> None:
        """Note a confirmed line; on the disk after the next `flush`."""
        assert self._file is not None, "a journal is written inside its with statement"
        self._done[number] = digest
        self._file.write(f'{{"line": {number}, "hash": "{digest}"}}\n')

    def flush(self) -> None:
        """Hand what is noted to the operating system: it outlives this process from here."""
        if self._file is not None:
            self._file.flush()

    def __enter__(self) -> Self:
        try:
            # Not 'a': a torn last line, and all lines of a journal that begins anew, must go.
            self._file = self.path.open("r+" if self._end else "w", encoding="utf-8")
        except OSError as error:
            raise JournalError(
                f"the journal {self.path} cannot be written: {error.strerror}"
            ) from error
        self._file.seek(self._end)
        self._file.truncate()
        if not self._end:
            self._file.write(json.dumps(self._header) + "\n")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()

    def _read(self) -> None:
        try:
            data = self.path.read_bytes()
        except OSError as error:
            raise JournalError(
                f"the journal {self.path} cannot be read: {error.strerror}"
            ) from error
        for line in data.splitlines(keepends=True):
            if not line.endswith(b"\n"):
                return  # torn by a crash: the line that it was for counts as not sent
            try:
                self._take(json.loads(line))
            except (ValueError, KeyError, TypeError) as error:
                raise JournalError(
                    f"{self.path} is not a journal of mqkit publish; name another with --journal"
                ) from error
            self._end += len(line)

    def _take(self, item: dict[str, object]) -> None:
        if self._end:
            self._done[int(str(item["line"]))] = str(item["hash"])
        elif item != self._header:
            if item["journal"] != VERSION:
                raise ValueError("of another version")
            raise JournalError(
                f"{self.path} is the journal of publishing to exchange {item['exchange']!r} with "
                f"routing key {item['routing_key']!r}; name another with --journal"
            )
