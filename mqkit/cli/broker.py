"""`mqkit broker`: the embedded broker, by itself."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from mqkit.cli.options import LOG_FORMAT, log_level_number
from mqkit.embedded import PRODUCT, DataError, EmbeddedServer, ServerThread, version
from mqkit.errors import BrokerError, BrokerUrlError, ConfigurationError

logger = logging.getLogger(__name__)

DEFAULT_HOST = "127.0.0.1"

DEFAULT_PORT = 5672
"""AMQP's own (IANA)."""

DEFAULT_USER = "guest:guest"

IN_MEMORY = "in memory: what it holds ends with it (--data DIR keeps durable queues)"


class EmbeddedBrokerError(BrokerError):
    """The embedded broker could not start, or had to stop; the message says why."""


def broker(
    host: Annotated[
        str, typer.Option(help="The address to listen on. The user guest may come from here only.")
    ] = DEFAULT_HOST,
    port: Annotated[
        int, typer.Option(help="0 takes a free one, which is printed.", min=0, max=65535)
    ] = DEFAULT_PORT,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Keep durable queues in an SQLite file in this directory. Default: in memory.",
            show_default=False,
        ),
    ] = None,
    user: Annotated[
        str, typer.Option(metavar="NAME:PASSWORD", help="Who may log in.")
    ] = DEFAULT_USER,
    log_level: Annotated[
        str, typer.Option(help="debug, info, warning, error or critical.")
    ] = "warning",
) -> None:
    """Run the embedded AMQP 0-9-1 broker until SIGTERM or SIGINT.

    For development and tests on machines without RabbitMQ; the README tells what it does and
    what it refuses. Exit code 0: stopped; 1: it could not start, or not keep what it was given;
    2: it was called wrongly.
    """
    level = log_level_number(log_level)
    name, colon, password = user.partition(":")
    if not (name and colon and password):
        raise typer.BadParameter("it takes NAME:PASSWORD", param_hint="--user")
    logging.basicConfig(level=level, format=LOG_FORMAT, stream=sys.stderr)
    server = EmbeddedServer(host=host, port=port, data=data, users={name: password})
    try:
        asyncio.run(_serve(server, data))
    except DataError as error:
        raise EmbeddedBrokerError(str(error)) from error
    except OSError as error:
        raise EmbeddedBrokerError(
            f"cannot listen on {host}:{port}: {error.strerror or error}; is another broker "
            "running there? --port names another"
        ) from error


@contextlib.contextmanager
def embedded_broker(data: Path | None = None) -> Iterator[str]:
    """The URL of an embedded broker in a thread of this process; it ends with the block.

    :raises EmbeddedBrokerError: it could not start
    """
    server = ServerThread(data=data)
    try:
        server.start()
    except (DataError, OSError) as error:
        raise EmbeddedBrokerError(str(error)) from error
    try:
        where = f"keeping its queues in {data}" if data is not None else IN_MEMORY
        logger.warning("%s %s on amqp://127.0.0.1:%d/, %s", PRODUCT, version(), server.port, where)
        yield server.url
    finally:
        server.stop()


def check_broker_choice(url: str | None, data: Path | None, *, embedded: bool) -> None:
    """See that the options agree.

    :raises BrokerUrlError: both brokers were asked for
    :raises ConfigurationError: a data directory without the broker that uses it
    """
    if embedded and url is not None:
        raise BrokerUrlError("--embedded and --url are two brokers; give one of them")
    if data is not None and not embedded:
        raise ConfigurationError("--data is the embedded broker's; give --embedded with it")


async def _serve(server: EmbeddedServer, data: Path | None) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
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
