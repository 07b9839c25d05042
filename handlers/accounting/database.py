"""Opens the ledger's database file, readable by its owner only, and keeps its SQL out of logs."""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path


def make_private(path: Path) -> None:
    """Make the file for its owner only; one that is there keeps its rights.

    The libraries that write it log parameters of statements at their lowest level.
    """
    with contextlib.suppress(OSError):  # SQLite says why it cannot be made
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
    for name in ("sqlalchemy", "aiosqlite"):
        if logging.getLogger(name).level == logging.NOTSET:
            logging.getLogger(name).setLevel(logging.WARNING)
