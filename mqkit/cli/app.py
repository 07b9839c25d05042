"""Puts the commands together, and turns errors into one line and an exit code.

Exit codes: 0 done, 1 it failed, 2 it was called wrongly.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import os
from collections.abc import Mapping
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from mqkit import __version__
from mqkit.cli.options import errors_as_exit_codes

COMMANDS: Mapping[str, str] = {
    "run": "mqkit.cli.run:run",
    "publish": "mqkit.cli.publish.command:publish",
    "broker": "mqkit.cli.broker:broker",
    "relay": "mqkit.cli.relay:relay",
    "top": "mqkit.cli.top.command:top",
    "status": "mqkit.cli.status:status",
    "capacity": "mqkit.cli.capacity.command:capacity",
    "saga": "mqkit.cli.saga:app",
    "console": "mqkit.cli.console.command:console",
    "dead-letters": "mqkit.cli.dead_letters.app:app",
    "asyncapi": "mqkit.cli.asyncapi.command:app",
    "delays": "mqkit.cli.topology.delays:app",
    "topology": "mqkit.cli.topology.commands:app",
}
"""Where each command is, a function or a Typer with commands of its own; in the order of --help."""


HELP_OPTIONS = frozenset({"-h", "--help"})


class Commands(TyperGroup):
    """The commands, of which only the one that is called is imported: a worker starts earlier."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - click's
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name in COMMANDS and cmd_name not in self.commands:
            self.commands[cmd_name] = _command(cmd_name)
        return super().get_command(ctx, cmd_name)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in COMMANDS:  # Typer looks among them for what was meant
            for name in COMMANDS:
                self.get_command(ctx, name)
        found = super().resolve_command(ctx, args)
        _, command, left = found
        if not left or not HELP_OPTIONS.isdisjoint(left):
            _plain_help(command)
        return found


@functools.cache
def _command(name: str) -> Any:
    """Read a command's options once, however often a process runs it: that takes 10 ms."""
    module, _, attribute = COMMANDS[name].partition(":")
    found = getattr(importlib.import_module(module), attribute)
    if isinstance(found, typer.Typer):
        group = typer.main.get_group(found)
        group.name = name
        return group
    alone = typer.Typer(add_completion=False)
    alone.command(name)(found)
    return typer.main.get_command(alone)


@functools.cache  # once: what is escaped would be escaped again
def _plain_help(command: Any) -> None:
    """Have the help of a command, its parameters and the commands below it shown as it is written.

    Typer keeps the ends of lines of all but the first paragraph, so that lines made for the source
    would be broken again at the terminal's width; and Rich takes `amqp[s]` for a style.
    """
    from rich.markup import escape  # noqa: PLC0415 - 20 ms, which no other command should wait for

    if command.help:
        paragraphs = inspect.cleandoc(command.help).split("\n\n")
        command.help = escape("\n\n".join(" ".join(each.split()) for each in paragraphs))
    for parameter in command.params:
        if parameter.help:
            parameter.help = escape(parameter.help)
    for below in getattr(command, "commands", {}).values():
        _plain_help(below)


ABOUT = (
    "Message handlers on RabbitMQ. No message is lost, and what a handler does in its store's "
    "Transaction is done once."
)

app = typer.Typer(
    name="mqkit",
    cls=Commands,
    help=ABOUT,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    # Of the commands below, too.
    context_settings={"help_option_names": sorted(HELP_OPTIONS, key=len)},
)


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
    _open_streams()
    with errors_as_exit_codes():
        app()


def _open_streams() -> None:
    """Open what is closed of the standard streams: else a socket gets its number (`mqkit top >&-`).

    What then writes to an output writes to the broker, and uvloop aborts when it closes the socket.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
