"""Says why the system refused something, in its own words."""

from __future__ import annotations

import os
from typing import Any


def root_text(error: BaseException) -> str:
    """Return the innermost reason of an error: libraries wrap an OSError several times."""
    seen: Any = error
    for _ in range(8):
        inner = getattr(seen, "exceptions", None) or getattr(seen, "exception", None) or seen.args
        inner = inner[-1] if isinstance(inner, list | tuple) and inner else inner
        if not isinstance(inner, BaseException):
            break
        seen = inner
    if isinstance(seen, OSError) and seen.strerror:
        # asyncio writes 'Connect call failed' and the address where the system's word should be.
        is_system = type(seen).__module__ == "builtins" and seen.errno and seen.errno > 0
        return os.strerror(seen.errno) if is_system and seen.errno else seen.strerror
    return str(seen) or type(seen).__name__
