"""A TCP proxy in front of a broker that fails as networks do."""

from typing import TYPE_CHECKING

from mqkit.testing.lazy_names import lazy_names

if TYPE_CHECKING:
    from mqkit.testing.proxy.proxy import ACK_FRAME, Direction, ProxyClosedError, TcpProxy
    from mqkit.testing.proxy.relay import HEARTBEAT

__all__ = ["ACK_FRAME", "HEARTBEAT", "Direction", "ProxyClosedError", "TcpProxy"]

__getattr__ = lazy_names(
    __name__,
    {
        "ACK_FRAME": "proxy",
        "Direction": "proxy",
        "HEARTBEAT": "relay",
        "ProxyClosedError": "proxy",
        "TcpProxy": "proxy",
    },
)
