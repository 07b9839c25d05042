"""The demo's folder: the databases, logs and statements of its last run."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

MARK = "demo.lock"
"""The file by which a folder is known to be a demo's, and that a demo which runs holds locked."""


class FolderError(Exception):
    """The folder cannot be used; the message says what to do."""


@contextlib.contextmanager
def fresh_folder(path: Path) -> Iterator[Path]:
    """Make an empty folder for a demo, and hold it; what an earlier demo left there is removed.

    :raises FolderError: another demo runs there, or it has something else in it
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        is_known = (path / MARK).exists()
        if not is_known and any(path.iterdir()):
            raise FolderError(
                f"{path} is not empty, and not a demo's; remove it, or name another by --folder"
            )
        held = os.open(path / MARK, os.O_CREAT | os.O_RDWR, 0o600)
    except OSError as error:
        raise FolderError(f"{path} cannot be used: {error.strerror or error}") from error
    try:
        if not _lock(held):
            raise FolderError(
                f"another demo runs in {path}: wait for its end, or name another by --folder"
            )
        _empty(path)
        yield path
    finally:
        os.close(held)


def _lock(file: int) -> bool:
    """Lock a file, which ends with this process; returns False if another one has it."""
    if sys.platform == "win32":
        return True  # which removes no file that another process has open
    import fcntl  # noqa: PLC0415 - not there on Windows

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _empty(path: Path) -> None:
    for each in path.iterdir():
        if each.is_dir() and not each.is_symlink():
            shutil.rmtree(each)
        elif each.name != MARK:
            each.unlink()
