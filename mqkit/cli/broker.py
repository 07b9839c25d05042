"""`mqkit broker`: the embedded broker, by itself."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from mqkit.cli.log_setup import log_to_stderr
from mqkit.cli.options import LogLevelOption, log_level_number
from mqkit.errors import BrokerUrlError, ConfigurationError

DEFAULT_HOST = "127.0.0.1"

DEFAULT_PORT = 5672
"""AMQP's own (IANA)."""

DEFAULT_USER = "guest"

PASSWORD_VARIABLE = "MQKIT_BROKER_PASSWORD"  # noqa: S105 - its name
"""The environment's: other users of the machine cannot see it, as they see a command line."""


def broker(
    host: Annotated[
        str,
        typer.Option(help="The address to listen on. The user guest may come over loopback only."),
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
        str,
        typer.Option(
            metavar="NAME[:PASSWORD]",
            help="Who may log in. A password that stands here is seen by every user of this "
            "machine; without one it is --password-file's, else the environment's "
            f"{PASSWORD_VARIABLE}, else, for guest, guest.",
        ),
    ] = DEFAULT_USER,
    password_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The file that has the password of --user, alone.",
            show_default=False,
        ),
    ] = None,
    memory_limit: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="How much memory messages may take until publishers are blocked: 2GiB, 500MB, or "
            "a share as 40%, which is the default, of what this machine or its control group has.",
            show_default=False,
        ),
    ] = None,
    log_level: LogLevelOption = "warning",
) -> None:
    """Run the embedded AMQP 0-9-1 broker until SIGTERM or SIGINT.

    For development and tests on machines without RabbitMQ; its guide tells what it does and what it
    refuses. Exit code 0: stopped; 1: it could not start, or not keep what it was given; 2: it was
    called wrongly.
    """
    level = log_level_number(log_level)
    users = _users(user, password_file)
    log_to_stderr(level)
    from mqkit.cli import embedded_broker  # noqa: PLC0415 - the other commands start without it, sooner
    from mqkit.embedded import limit_of  # noqa: PLC0415 - as above

    try:
        limit = None if memory_limit is None else limit_of(memory_limit)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--memory-limit") from error
    embedded_broker.serve(host=host, port=port, data=data, users=users, memory_limit=limit)


def _users(user: str, password_file: Path | None) -> dict[str, str]:
    """Return who may log in, with the password from where it is given.

    :raises typer.BadParameter: there is no name or no password, or there are two passwords
    """
    name, colon, password = user.partition(":")
    if colon and password_file is not None:
        raise typer.BadParameter(
            "the password is in --user already; give one of the two", param_hint="--password-file"
        )
    if not colon and password_file is not None:
        password = _password_in(password_file)
    elif not colon:
        default = DEFAULT_USER if name == DEFAULT_USER else ""
        password = os.environ.get(PASSWORD_VARIABLE, default)
    if not (name and password):
        raise typer.BadParameter(
            f"it takes NAME:PASSWORD, or NAME with --password-file or the environment's "
            f"{PASSWORD_VARIABLE}",
            param_hint="--user",
        )
    return {name: password}


def _password_in(path: Path) -> str:
    """Read a password from a file, without the end of its line.

    :raises typer.BadParameter: it cannot be read; nothing of what it has is in the words
    """
    try:
        return path.read_text(encoding="utf-8").strip("\r\n")
    except OSError as error:
        why = str(error.strerror)
    except UnicodeDecodeError:
        why = "it is no UTF-8"
    raise typer.BadParameter(f"{path} cannot be read: {why}", param_hint="--password-file")


def check_broker_choice(
    url: str | None, data: Path | None, port: int | None, *, embedded: bool
) -> None:
    """Check that the options agree.

    :raises BrokerUrlError: both brokers were asked for
    :raises ConfigurationError: a data directory or a port without the broker that uses it
    """
    if embedded and url is not None:
        raise BrokerUrlError("--embedded and --url are two brokers; give one of them")
    for option, value in (("--data", data), ("--port", port)):
        if value is not None and not embedded:
            raise ConfigurationError(f"{option} is the embedded broker's; give --embedded with it")
