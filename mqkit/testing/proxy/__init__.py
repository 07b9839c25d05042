"""A TCP proxy in front of a broker that fails as networks do."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mqkit.testing.proxy.proxy import ACK_FRAME, Direction, TcpProxy

__all__ = ["ACK_FRAME", "Direction", "TcpProxy"]

_HOMES = {
    "ACK_FRAME": "mqkit.testing.proxy.proxy",
    "Direction": "mqkit.testing.proxy.proxy",
    "TcpProxy": "mqkit.testing.proxy.proxy",
}
"""Where each name is. It is imported when it is first asked for, as in `mqkit` itself."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
