"""`mqkit broker`: the embedded broker, by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mqkit.cli.options import log_level_number, log_to_stderr
from mqkit.errors import BrokerUrlError, ConfigurationError

DEFAULT_HOST = "127.0.0.1"

DEFAULT_PORT = 5672
"""AMQP's own (IANA)."""

DEFAULT_USER = "guest:guest"


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
    log_to_stderr(level)
    from mqkit.cli import embedded  # noqa: PLC0415 - the other commands start without it, sooner

    embedded.serve(host=host, port=port, data=data, users={name: password})


def check_broker_choice(url: str | None, data: Path | None, *, embedded: bool) -> None:
    """See that the options agree.

    :raises BrokerUrlError: both brokers were asked for
    :raises ConfigurationError: a data directory without the broker that uses it
    """
    if embedded and url is not None:
        raise BrokerUrlError("--embedded and --url are two brokers; give one of them")
    if data is not None and not embedded:
        raise ConfigurationError("--data is the embedded broker's; give --embedded with it")
