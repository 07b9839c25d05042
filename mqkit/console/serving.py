"""Serves a console over HTTP until it is told to stop."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Iterator

import uvicorn
from starlette.applications import Starlette

from mqkit.console.access.guard import LOGIN
from mqkit.console.desk import Desk
from mqkit.errors import MqkitError
from mqkit.system.signals import STOPPING, on_signal

LONGEST_HEAD = 32 * 1024
"""Bytes of a request's line and headers."""

MOST = 200
"""Connections at a time; more are answered with 503."""

LAST_ANSWERS = 3
"""Seconds that answers which are under way get, once it is told to stop."""

WILDCARDS = ("0.0.0.0", "::")  # noqa: S104 - they are only compared with


class ConsoleError(MqkitError):
    """The console cannot be served; the message says why."""


def listen(host: str, port: int) -> socket.socket:
    """Listen on an address; port 0 takes a free one.

    :raises ConsoleError: it cannot be listened on
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=128)
    except (OSError, OverflowError, UnicodeError) as error:
        number = getattr(error, "errno", None)
        why = os.strerror(number) if number and number > 0 else error
        raise ConsoleError(
            f"cannot listen on {host}:{port} for the console: {why}; does another process have "
            "it? --listen names another port"
        ) from error


class _Server(uvicorn.Server):
    """A server whose process ends with exit code 0 after a signal: it raises none again."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to who runs it."""
        yield

    def stop(self) -> None:
        """Stop; at the second call, without waiting for answers that are under way."""
        self.force_exit = self.should_exit
        self.should_exit = True


async def serve(app: Starlette, listening: socket.socket) -> None:
    """Serve a console until SIGTERM or SIGINT.

    Nothing of requests is logged: a login link's code is in one.
    """
    config = uvicorn.Config(
        app,
        access_log=False,
        h11_max_incomplete_event_size=LONGEST_HEAD,
        http="h11",
        limit_concurrency=MOST,
        log_config=None,
        log_level=logging.WARNING,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=LAST_ANSWERS,
        ws="none",
    )
    server = _Server(config)
    for number in STOPPING:
        on_signal(number, server.stop)
    await server.serve(sockets=[listening])


def login_link(app: Starlette, host: str, port: int) -> str:
    """Make the address that opens the console once, within ten minutes."""
    desk = app.state.desk
    assert isinstance(desk, Desk)
    return f"{address(host, port)}{LOGIN}?code={desk.door.code()}"


def address(host: str, port: int) -> str:
    """Return the address that a browser of this machine reaches it by."""
    name = "127.0.0.1" if host in WILDCARDS else host
    return f"http://{f'[{name}]' if ':' in name else name}:{port}"
