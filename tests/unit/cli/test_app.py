"""The commands together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer
from rich.text import Text
from typer.testing import CliRunner

from mqkit.cli.app import app


def test_every_command_tells_its_options_by_either_name() -> None:
    """`-h` is `--help`, of the command line and of each of its commands."""
    runner = CliRunner()
    for command in (
        [],
        *([each] for each in ("run", "publish", "broker", "relay", "status", "asyncapi")),
    ):
        short, long = (runner.invoke(app, [*command, option]) for option in ("-h", "--help"))
        assert short.exit_code == 0
        assert short.output == long.output
        assert "-h" in short.output


def _helps(command: Any, path: str) -> Iterator[tuple[str, str]]:
    if hasattr(command, "list_commands"):
        context = typer.Context(command)
        for name in command.list_commands(context):
            yield from _helps(command.get_command(context, name), f"{path} {name}")
    yield path, command.help or ""
    for each in command.params:
        yield f"{path} {each.name}", getattr(each, "help", None) or ""


def test_no_help_has_words_that_are_taken_for_markup() -> None:
    """Rich would leave out the brackets of `amqp[s]`, and what stands in them."""
    texts = dict(_helps(typer.main.get_command(app), "mqkit"))
    assert len(texts) > 100
    assert {name for name, text in texts.items() if Text.from_markup(text).plain != text} == set()
