"""The commands together."""

from __future__ import annotations

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
