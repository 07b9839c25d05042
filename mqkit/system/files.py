"""Opens and locks files as Windows and other systems have it."""

from __future__ import annotations

import os
import sys

BYTES = getattr(os, "O_BINARY", 0)
"""A flag of `os.open`: Windows translates line ends without it. Elsewhere there is no such thing.

That a process which is started does not inherit the file needs no flag in Python (PEP 446)."""

if sys.platform == "win32":
    import msvcrt

    _AT = 2**31 - 2
    """The byte that is locked: nobody else may read it meanwhile, so it is where none is."""

    def lock(file: int) -> bool:
        """Lock an open file, or tell that another process has; the system ends it at the latest."""
        at = os.lseek(file, 0, os.SEEK_CUR)
        os.lseek(file, _AT, os.SEEK_SET)
        try:
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        finally:
            os.lseek(file, at, os.SEEK_SET)
        return True

else:
    import fcntl

    def lock(file: int) -> bool:
        """Lock an open file, or tell that another process has; the system ends it at the latest."""
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
