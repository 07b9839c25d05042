"""Wrong calls of the commands; what `mqkit publish` does is in `test_cli_publish`."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from mqkit import __version__
from tests.forked import finished
from tests.support import ROOT

SECRET = "planted-secret"


def mqkit(*arguments: str, url: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    environment = {k: v for k, v in os.environ.items() if k != "MQKIT_URL"}
    return finished(arguments, environment | ({"MQKIT_URL": url} if url else {}))


def test_the_command_says_which_version_it_is() -> None:
    """`mqkit --version` names the package's version, and nothing else."""
    command = [sys.executable, "-m", "mqkit", "--version"]
    assert subprocess.check_output(command, cwd=ROOT, text=True) == f"mqkit {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["run", "tests.faults.services:slow"], 2, "set MQKIT_URL"),
        (["run", "tests.faults.services:slow", "--url", f"amqp://u:{SECRET}@h:x/"], 2, "the port"),
        (
            ["run", "tests.faults.services:slow", "--url", f"amqp://u:{SECRET}@h/?heartbeet=1"],
            2,
            "unknown parameter 'heartbeet'; use heartbeat",
        ),
        (["run", "tests.faults.services:nope", "--url", "amqp://h"], 2, "has no 'nope'"),
        (["run", "tests.faults.services:note", "--url", "amqp://h"], 2, "not a Service"),
        (["run", "tests.nowhere:slow", "--url", "amqp://h"], 2, "no module 'tests.nowhere'"),
        (["run", "tests.faults.services", "--url", "amqp://h"], 2, "is not MODULE:SERVICE"),
        (
            ["run", "tests.integration.wrong_services:service", "--url", "amqp://h"],
            2,
            "delivery_limit is 20 in one and 5 in the other",
        ),
        (["run", "tests.faults.services:slow", "--grace", "-1"], 2, "--grace"),
        (["run", "tests.faults.services:slow", "--log-level", "loud"], 2, "not a log level"),
        (
            ["run", "tests.faults.services:slow", "--processes", "0"],
            2,
            "Invalid value for '--processes'",
        ),
        (
            ["run", "tests.faults.services:slow", "--processes", "-3"],
            2,
            "Invalid value for '--processes'",
        ),
        (
            ["run", "tests.faults.services:slow", "--processes", "x"],
            2,
            "Invalid value for '--processes'",
        ),
        (
            ["run", "tests.faults.services:slow", "--processes", "2", "--reload"],
            2,
            "--reload runs one process",
        ),
        (
            [
                *("run", "tests.faults.services:slow", "--processes", "2"),
                *("--url", f"amqp://u:{SECRET}@h:x/"),
            ],
            2,
            "the port",
        ),
        (["runn"], 2, "runn"),
        (
            [
                *("run", "tests.faults.services:slow", "--connect-deadline", "0.3"),
                *("--url", f"amqp://u:{SECRET}@127.0.0.1:1/"),
            ],
            1,
            "127.0.0.1:1: Connection refused",
        ),
        (["publish", "", "k", "--file", "/nowhere", "--url", "amqp://h"], 2, "does not exist"),
        (["publish", "", "k", "--file", ".", "--url", "amqp://h"], 2, "not a regular file"),
        (["publish", "", "k", "--url", "amqp://h"], 2, "--file"),
    ],
)
def test_a_wrong_call_is_one_clear_error(arguments: list[str], code: int, words: str) -> None:
    """Each mistake names what is wrong, exits 1 or 2, and shows no traceback and no secret."""
    done = mqkit(*arguments)
    flat = " ".join(done.stderr.replace("│", " ").split())
    assert done.returncode == code, done.stderr
    assert words in flat
    assert "Traceback" not in done.stderr
    assert SECRET not in done.stdout + done.stderr
