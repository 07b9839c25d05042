"""Runs the embedded broker for the command line: by itself, or beside a service."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import typer

from mqkit.cli.loop import tune_collector
from mqkit.embedded import PRODUCT, DataError, EmbeddedServer, ServerThread, version
from mqkit.errors import BrokerError
from mqkit.system.signals import STOPPING, on_signal

logger = logging.getLogger(__name__)

IN_MEMORY = "in memory: what it holds ends with it (--data DIR keeps durable queues)"


class EmbeddedBrokerError(BrokerError):
    """The embedded broker could not start, or had to stop; the message says why."""


def serve(
    *,
    host: str,
    port: int,
    data: Path | None,
    users: Mapping[str, str],
    memory_limit: int | None = None,
) -> None:
    """Run an embedded broker until SIGTERM or SIGINT.

    :param memory_limit: bytes; None is a share of what the machine has
    :raises EmbeddedBrokerError: it could not start, or not keep what it was given
    """
    server = EmbeddedServer(host=host, port=port, data=data, users=users, memory_limit=memory_limit)
    try:
        asyncio.run(_serve(server, data))
    except DataError as error:
        raise EmbeddedBrokerError(str(error)) from error
    except OSError as error:
        raise _cannot_listen(host, port, error) from error


def _cannot_listen(host: str, port: int, error: OSError) -> EmbeddedBrokerError:
    return EmbeddedBrokerError(
        f"cannot listen on {host}:{port}: {error.strerror or error}; is another broker "
        "running there? --port names another"
    )


@contextlib.contextmanager
def embedded_broker(data: Path | None = None, port: int = 0) -> Iterator[str]:
    """Run an embedded broker in a thread of this process for the block, which is given its URL.

    :param port: of 127.0.0.1; 0 takes a free one
    :raises EmbeddedBrokerError: it could not start
    """
    server = ServerThread(data=data, port=port)
    try:
        server.start()
    except DataError as error:
        raise EmbeddedBrokerError(str(error)) from error
    except OSError as error:
        raise _cannot_listen("127.0.0.1", port, error) from error
    try:
        where = f"keeping its queues in {data}" if data is not None else IN_MEMORY
        # Without the password, which is guest's own and the default.
        address = f"amqp://127.0.0.1:{server.port}/"
        logger.warning("%s %s on %s, %s", PRODUCT, version(), address, where)
        logger.warning("other commands reach it by --url %s", address)
        yield server.url
    finally:
        server.stop()


async def _serve(server: EmbeddedServer, data: Path | None) -> None:
    stop = asyncio.Event()
    tune_collector(holds_much=True)
    for number in STOPPING:
        on_signal(number, stop.set)
    async with server:
        where = f"keeping durable queues in {data}" if data is not None else IN_MEMORY
        # Without the password: this may be a log.
        address = f"[{server.host}]" if ":" in server.host else server.host
        typer.echo(f"{PRODUCT} {version()} on amqp://{address}:{server.port}/, {where}")
        stopped = asyncio.create_task(stop.wait())
        assert server.failed is not None
        either: list[asyncio.Future[Any]] = [stopped, server.failed]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if server.failed.done():
            server.failed.result()
