"""Keeps in a journal beside a file which of its lines are published, so that a rerun goes on.

One JSON object a line. The first says what the journal is of, and has a random id, of which those
of the messages are made: the lines of another file, be they the same, are other messages, while a
file may be moved with its journal. It is on the disk before a message is sent, or a crash of the
machine could leave stored messages whose ids nobody knows. Each other is one line of the file,
by its number and a hash of its bytes: confirmed, or with `error` and why not. Each is handed to
the operating system as soon as the confirm is known, and to the disk at the end. So what a killed
process can lack here are lines whose confirm was still on its way, as many as the window at most;
and after a crash of the machine, those of the last seconds. They are sent again under their id.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import stat
import uuid
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mqkit.errors import ConfigurationError
from mqkit.system.files import BYTES, lock

VERSION = 1

HASH_BYTES = 12

MAX_LINES = 2**48
"""Lines of a file; no file system holds one that has more."""

PAGE = 4096
"""Lines whose hashes lie in one piece of memory."""

_NAMESPACE = uuid.UUID("6f1a3c1e-8e0f-4c0b-9a55-0d1c1f0a7b52")


class JournalError(ConfigurationError):
    """A journal cannot be used for this run; the message says why and what to do."""


def line_hash(line: bytes) -> bytes:
    """Hash a line's content."""
    return hashlib.blake2b(line, digest_size=HASH_BYTES).digest()


class Journal:
    """Records the confirmed lines of one file to one exchange and routing key.

    A context manager; nobody else can open it until it is closed.

    Only its owner may read it: why a line failed can tell what is in it.

    :param resume: go on from what is noted
    :param anew: begin again with nothing noted, and other message ids
    :raises JournalError: it cannot be opened, is open elsewhere, is the journal of something else
        or none at all; or it notes confirmed lines, and neither `resume` nor `anew` is given
    """

    def __init__(
        self, path: Path, *, exchange: str, routing_key: str, resume: bool, anew: bool
    ) -> None:
        self.path = path
        self._target = {"exchange": exchange, "routing_key": routing_key}
        self._id: str | None = str(uuid.uuid4())
        self._known = _Hashes()
        self.is_broken = False
        """True once something could not be written; then nothing more is."""
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | BYTES, 0o600)
        except OSError as error:
            raise self._error(f"cannot be written: {error.strerror}", other=True) from error
        try:
            self._lock()
            end = self._read(anew=anew)
            if len(self._known) and not resume:
                raise self._error(  # noqa: TRY301 - the file must be closed for this one as well
                    f"notes {len(self._known)} lines that an earlier run published; "
                    "say --resume to send the others only, or --anew to send all again"
                )
            os.ftruncate(self._file, end)
            if not end:
                self._begin()
        except BaseException:
            os.close(self._file)
            raise

    def __len__(self) -> int:
        return len(self._known)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            os.fsync(self._file)
        finally:
            os.close(self._file)

    def message_id(self, number: int, digest: bytes) -> str:
        """Return the id of a line's message: the same in every run that uses this journal."""
        place = [self._target["exchange"], self._target["routing_key"], number, digest.hex()]
        identity = json.dumps(place if self._id is None else [self._id, *place])
        return str(uuid.uuid5(_NAMESPACE, identity))

    def has(self, number: int, digest: bytes) -> bool:
        """Tell whether that line, with that content, was confirmed by an earlier run."""
        return self._known.get(number) == digest

    def changed(self, number: int, digest: bytes) -> bool:
        """Tell whether that line was confirmed with another content."""
        return self._known.get(number) not in (None, digest)

    def confirmed(self, number: int, digest: bytes) -> None:
        """Record a confirmed line, which outlives this process from here on.

        :raises OSError: it could not be written; nor will anything be that follows
        """
        self._write({"line": number, "hash": digest.hex()})

    def failed(self, number: int, digest: bytes, error: str) -> None:
        """Record why a line is not confirmed, for people; a rerun sends it again.

        :raises OSError: as `confirmed`
        """
        self._write({"line": number, "hash": digest.hex(), "error": error})

    def _lock(self) -> None:
        if not stat.S_ISREG(os.fstat(self._file).st_mode):
            raise self._error("is not a regular file", other=True)
        if not lock(self._file):
            raise self._error("is in use: this file is being published already")

    def _begin(self) -> None:
        try:
            self._write({"journal": VERSION, "id": self._id, **self._target})
            os.fsync(self._file)
        except OSError as error:
            raise self._error(f"cannot be written: {error.strerror}", other=True) from error
        # The folder has its name. Some file systems cannot do this, and need not.
        with contextlib.suppress(OSError):
            folder = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def _write(self, item: dict[str, object]) -> None:
        if self.is_broken:
            return  # after half a line, a whole one would be unreadable
        data = json.dumps(item).encode() + b"\n"
        try:
            while data:
                data = data[os.write(self._file, data) :]
        except OSError:
            self.is_broken = True
            raise

    def _read(self, *, anew: bool) -> int:
        """Read what is recorded; return where it ends, before a last line that a crash has torn."""
        end = 0
        with os.fdopen(os.dup(self._file), "rb") as lines:
            lines.seek(0)
            for number, line in enumerate(lines, start=1):
                if not line.endswith(b"\n"):
                    if not end and not _may_begin_a_journal(line):
                        # Not ours, and not ours to cut off.
                        raise self._error("is not a journal of mqkit publish", other=True)
                    break
                if not end:
                    self._check_header(line, anew=anew)
                    if anew:
                        return 0
                else:
                    self._take(number, line)
                end += len(line)
        return end

    def _check_header(self, line: bytes, *, anew: bool) -> None:
        try:
            header = _loads(line)
            version, *target = (header[name] for name in ("journal", *self._target))
        except (ValueError, LookupError, TypeError) as error:
            raise self._error("is not a journal of mqkit publish", other=True) from error
        if type(version) is not int or version != VERSION:
            raise self._error(f"is a journal of version {version!r}, not {VERSION}", other=True)
        if anew:
            return
        if target != [*self._target.values()]:
            exchange, key = target
            raise self._error(
                f"is of publishing to exchange {exchange!r} with routing key {key!r}",
                other=True,
            )
        # One of an earlier version has none; its lines keep the ids that they were sent under.
        self._id = header.get("id")
        if self._id is not None and not isinstance(self._id, str):
            raise self._error("is not a journal of mqkit publish", other=True)

    def _take(self, number: int, line: bytes) -> None:
        try:
            item = _loads(line)
            if "error" not in item:
                self._known.put(item["line"], bytes.fromhex(item["hash"]))
        except (ValueError, LookupError, TypeError) as error:
            raise self._error(
                f"is damaged in line {number}; remove that line to send again what it was for, or "
                "say --anew to send all again, as new messages"
            ) from error

    def _error(self, what: str, *, other: bool = False) -> JournalError:
        hint = "; name another with --journal" if other else ""
        return JournalError(f"the journal {self.path} {what}{hint}")


def _loads(line: bytes) -> dict[str, Any]:
    """Parse a line of the journal.

    :raises ValueError: it is no JSON object, or nested too deeply to be a journal's
    """
    try:
        item = json.loads(line)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(item, dict):
        raise ValueError("no object")  # noqa: TRY004 - one error for all that it may be
    return item


def _may_begin_a_journal(line: bytes) -> bool:
    """Tell whether a crash can have left this of a journal's first line."""
    return b'{"journal": '.startswith(line) or _BEGUN.fullmatch(line) is not None


_BEGUN = re.compile(rb'\{"journal": [0-9]+(,.*)?')


class _Hashes:
    """Maps line numbers to hashes, in a sixteenth of the memory that a dict of them takes."""

    def __init__(self) -> None:
        self._pages: dict[int, bytearray] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def get(self, number: int) -> bytes | None:
        page, place = divmod(number, PAGE)
        hashes = self._pages.get(page)
        if hashes is None:
            return None
        found = bytes(hashes[place * HASH_BYTES : (place + 1) * HASH_BYTES])
        return found if any(found) else None

    def put(self, number: int, digest: bytes) -> None:
        if type(number) is not int or not 1 <= number <= MAX_LINES or len(digest) != HASH_BYTES:
            raise ValueError("not a line's number and hash")
        self._count += self.get(number) is None
        page, place = divmod(number, PAGE)
        hashes = self._pages.setdefault(page, bytearray(PAGE * HASH_BYTES))
        hashes[place * HASH_BYTES : (place + 1) * HASH_BYTES] = digest
