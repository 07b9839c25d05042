"""Puts the commands together, and turns errors into one line and an exit code.

Exit codes: 0 done, 1 it failed, 2 it was called wrongly.
"""

from __future__ import annotations

from typing import Annotated

import typer

from mqkit import __version__
from mqkit.cli.asyncapi.command import app as asyncapi
from mqkit.cli.broker import broker
from mqkit.cli.capacity.command import capacity
from mqkit.cli.dead_letters.app import app as dead_letters
from mqkit.cli.options import errors_as_exit_codes
from mqkit.cli.publish.command import publish
from mqkit.cli.relay import relay
from mqkit.cli.run import run
from mqkit.cli.saga import app as saga
from mqkit.cli.status import status
from mqkit.cli.topology.commands import app as topology
from mqkit.cli.topology.delays import app as delays

ABOUT = (
    "Message handlers on RabbitMQ. No message is lost, and what a handler does in its store's "
    "Transaction is done once."
)

app = typer.Typer(
    name="mqkit",
    help=ABOUT,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    # Of the commands below, too.
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(run)
app.command()(publish)
app.command()(broker)
app.command()(relay)
app.command()(status)
app.command()(capacity)
app.add_typer(saga, name="saga")
app.add_typer(dead_letters, name="dead-letters")
app.add_typer(asyncapi, name="asyncapi")
app.add_typer(delays, name="delays")
app.add_typer(topology, name="topology")


def _tell_version(asked: bool) -> None:
    if asked:
        typer.echo(f"mqkit {__version__}")
        raise typer.Exit


@app.callback()
def _commands(
    *,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_tell_version, is_eager=True, help="Say which it is."),
    ] = False,
) -> None:
    """Message handlers on RabbitMQ: none is lost, and effects in a Transaction are made once."""


def main() -> None:
    """Run the command line of this process."""
    with errors_as_exit_codes():
        app()
