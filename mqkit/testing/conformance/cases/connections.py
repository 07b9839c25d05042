"""Opening a connection (AMQP 0-9-1, section 1.4 "Connection")."""

from __future__ import annotations

from mqkit.testing.conformance.env import Env, expect_refused
from mqkit.testing.conformance.suite import case


@case("connections")
async def unknown_virtual_host(env: Env) -> None:
    """A virtual host that does not exist is refused with 530."""
    async with expect_refused(530, "NOT_ALLOWED"):
        await env.connection(vhost=env.name)


@case("connections")
async def wrong_password(env: Env) -> None:
    """A wrong password is refused with 403."""
    async with expect_refused(403, "ACCESS_REFUSED"):
        await env.connection(password=env.name)
