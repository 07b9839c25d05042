"""What the commands of `mqkit topology` share: options, services, and a connection."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from mqkit import drivers
from mqkit.broker.connection import Connection
from mqkit.cli.options import broker_url, management_url
from mqkit.cli.services import load_service
from mqkit.cli.topology.messages import MovedMessages
from mqkit.errors import MqkitError
from mqkit.management import ManagementApi
from mqkit.provisioning.apply import WAIT, Provisioner
from mqkit.provisioning.wanted import Wanted, wanted_by
from mqkit.registration.service import Service
from mqkit.settings import BrokerUrl

NAME = "mqkit.topology"
"""What the connection is called in the broker's lists."""

CONNECT = 10.0
"""Seconds to connect in."""

ServicesArgument = Annotated[
    list[str], typer.Argument(metavar="MODULE:SERVICE...", show_default=False)
]

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


MAX_LINE = 2_000
"""Characters of one line that is printed."""


def write_file(path: Path | None, text: str) -> None:
    """Write a text to a file, or print it where none is named.

    :raises OutputError: it cannot be written
    """
    if path is None:
        typer.echo(text, nl=False)
        return
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}") from error


class OutputError(MqkitError):
    """A file that was asked for cannot be written."""


def loaded(specs: Sequence[str]) -> list[Service]:
    """Import the services that were named.

    :raises ServiceNotFoundError: there is no such service
    """
    return [load_service(each) for each in specs]


def place_of(url: BrokerUrl) -> str:
    """Say which broker and virtual host a URL is of, without user and password."""
    hosts = ",".join(str(each) for each in url.hosts)
    return f"{hosts} virtual host {url.vhost}"


def management_api(option: str | None, url: BrokerUrl) -> ManagementApi | None:
    """Return the management API that is named, by the option or the environment; None if none is.

    :raises ConfigurationError: it is no URL of one
    """
    named = management_url(option)
    return ManagementApi(named, url.vhost) if named else None


@contextlib.asynccontextmanager
async def connected(url: BrokerUrl, driver: str | None) -> AsyncIterator[Connection]:
    """Connect for the block.

    :raises ConnectError: the broker is not there, or refuses this user
    """
    connection = Connection(url, name=NAME, driver=drivers.named(driver))
    await connection.open(CONNECT)
    try:
        yield connection
    finally:
        await connection.close()


@contextlib.asynccontextmanager
async def provisioner(
    specs: Sequence[str],
    url: str | None,
    management: str | None,
    driver: str | None,
    tell: Callable[[str], None] = lambda _: None,
    wait: float = WAIT,
    *,
    ladder: bool = False,
) -> AsyncIterator[tuple[Provisioner, Wanted]]:
    """Load services and connect for the block."""
    broker = broker_url(url)
    api = management_api(management, broker)
    wanted = wanted_by(loaded(specs))
    async with connected(broker, driver) as connection:
        made = Provisioner(
            connection,
            wanted,
            broker=place_of(broker),
            messages=MovedMessages(),
            api=api,
            tell=tell,
            wait=wait,
            ladder=ladder,
        )
        yield made, wanted
