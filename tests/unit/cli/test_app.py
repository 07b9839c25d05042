"""The commands together."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
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


def test_a_paragraph_of_help_is_as_wide_as_the_terminal() -> None:
    """Where a docstring's lines end is no matter of who reads the help."""
    for command in (["run"], ["top"], ["dead-letters", "show"], ["topology", "apply"]):
        shown = CliRunner(env={"COLUMNS": "1000"}).invoke(app, [*command, "-h"]).output
        about = shown.partition("╭")[0].split("\n \n")
        lines = [line for each in about for line in each.strip().splitlines() if line.strip()]
        assert len(lines) >= 3  # its usage, what it does, its exit codes
        assert all(line.strip()[-1] in ".}]" for line in lines), lines


def test_brackets_in_help_are_shown() -> None:
    """`amqp[s]` is no style of the terminal's, and `[HOST:]PORT` neither."""
    shown = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["run", "--help"]).output
    assert "amqp[s]://user:password@host[,host]/vhost" in shown
    assert "[HOST:]PORT" in shown


CAPACITY = ("capacity", "--rate", "10", "--service-time", "0.1", "--deadline", "1")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a full disk at hand")
def test_an_output_that_cannot_be_written_is_said_in_one_line() -> None:
    """As of a file on a full disk; the exit code is 1."""
    with Path("/dev/full").open("wb") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "mqkit", *CAPACITY],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert ended.stderr == "mqkit: the output cannot be written: No space left on device\n"
    assert ended.returncode == 1


@pytest.mark.skipif(sys.platform == "win32", reason="it has no such numbers")
def test_a_closed_output_gives_its_number_to_no_socket() -> None:
    """It was the broker's: what is printed must not go there, and uvloop aborts at its end."""
    look = (
        "import os\n"
        "from mqkit.cli import app\n"
        "app.app = lambda: os.write(2, str(os.open(os.devnull, os.O_RDONLY) > 2).encode())\n"
        "app.main()\n"
    )
    command = ["sh", "-c", 'exec "$@" <&- >&-', "sh", sys.executable, "-c", look]
    ended = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=True)
    assert ended.stderr == "True"
