"""Locks of files, which the system ends with the process."""

from __future__ import annotations

import os
from pathlib import Path

from mqkit.system.files import lock


def test_one_at_a_time_holds_a_lock(tmp_path: Path) -> None:
    """Another open file is told so, until the first is closed; it may be read meanwhile."""
    path = tmp_path / "locked"
    first, second = (os.open(path, os.O_RDWR | os.O_CREAT) for _ in range(2))
    try:
        os.write(first, b"text")
        assert lock(first)
        assert os.lseek(first, 0, os.SEEK_CUR) == 4
        assert not lock(second)
        assert os.read(second, 10) == b"text"
        os.close(first)
        assert lock(second)
    finally:
        os.close(second)
