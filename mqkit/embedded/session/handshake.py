"""The rules of the handshake: login, tuning and the choice of a virtual host.

AMQP 0-9-1, section 1.4, and https://www.rabbitmq.com/docs/access-control
"""

from __future__ import annotations

from typing import Any

from pamqp import commands

from mqkit.embedded.engine.node import PRODUCT, Node, version
from mqkit.embedded.engine.users import MECHANISMS, User, Users
from mqkit.embedded.engine.vhost import VirtualHost
from mqkit.embedded.errors import HandshakeError, access_refused, not_allowed

CHANNEL_MAX = 2047
"""Channels of one connection; RabbitMQ's default."""

FRAME_MAX = 131072
"""Bytes of a frame; RabbitMQ's default."""

FRAME_MIN = 8192
"""Bytes that a client must be ready to take, and all that it may send before it is tuned (4.1)."""

HEARTBEAT = 60
"""Seconds that are proposed to the client; RabbitMQ's default."""

CAPABILITIES: dict[str, Any] = {
    "publisher_confirms": True,
    "exchange_exchange_bindings": True,
    "basic.nack": True,
    "consumer_cancel_notify": True,
    "connection.blocked": True,
    "consumer_priorities": True,
    "authentication_failure_close": True,
    "per_consumer_qos": True,
    "direct_reply_to": True,
}


def start() -> commands.Connection.Start:
    """Make `connection.start`: what the broker says of itself first."""
    return commands.Connection.Start(
        server_properties={
            "product": PRODUCT,
            "version": version(),
            "platform": "Python",
            "capabilities": CAPABILITIES,
            "information": "in one process, for development and tests",
        },
        mechanisms=MECHANISMS,
    )


def capabilities(method: commands.Connection.StartOk) -> dict[str, Any]:
    """Return the extensions that the client says it understands; nonsense is none."""
    found: Any = (method.client_properties or {}).get("capabilities")
    return found if isinstance(found, dict) else {}


def log_in(
    users: Users, method: commands.Connection.StartOk, *, from_loopback: bool, tell: bool
) -> User:
    """Return the user that the client's proof is right for.

    :param tell: the client understands a refusal (`authentication_failure_close`)
    :raises ReplyError: 403
    :raises HandshakeError: as that, for a client that would not understand
    """
    if method.mechanism not in MECHANISMS.split():
        raise HandshakeError(f"unsupported mechanism {method.mechanism!r}")
    response = method.response
    user = users.log_in(
        method.mechanism,
        response.encode() if isinstance(response, str) else bytes(response),
        from_loopback=from_loopback,
    )
    if user is not None:
        return user
    refusal = access_refused(
        f"Login was refused using authentication mechanism {method.mechanism}. For details see "
        "the broker logfile.",
        hard=True,
    )
    if tell:
        raise refusal
    raise HandshakeError(str(refusal))


def check_tuning(method: commands.Connection.TuneOk) -> None:
    """Check that the client chose within what was offered.

    :raises ReplyError: 530
    """
    frame_max = method.frame_max
    if frame_max and frame_max < FRAME_MIN:
        raise not_allowed(
            f"negotiated frame_max = {frame_max} is lower than the minimum allowed "
            f"value ({FRAME_MIN})"
        )
    for name, value, most in (
        ("frame_max", frame_max, FRAME_MAX),
        ("channel_max", method.channel_max, CHANNEL_MAX),
    ):
        if not value:
            raise not_allowed(
                f"negotiated {name} = 0 (no limit) is higher than the maximum allowed "
                f"value ({most})"
            )
        if value > most:
            raise not_allowed(
                f"negotiated {name} = {value} is higher than the maximum allowed value ({most})"
            )


def enter(node: Node, user: User, name: str) -> VirtualHost:
    """Return the virtual host that the client asked for.

    :raises ReplyError: 530, it is not there, or not for this user
    """
    vhost = node.vhosts.get(name)
    if vhost is None:
        raise not_allowed(f"vhost {name} not found")
    if name not in user.permissions:
        raise not_allowed(f"access to vhost '{name}' refused for user '{user.name}'")
    return vhost
