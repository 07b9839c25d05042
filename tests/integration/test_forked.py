"""Commands that are forked from a process which has imported mqkit (`tests.forked`)."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from mqkit import __version__
from tests.forked import Command, finished, in_shell


def test_it_has_its_output_and_its_exit_code() -> None:
    """A command says on its own streams what it says, and ends with the code that is its own."""
    told = finished(["--version"], env=os.environ)
    assert (told.returncode, told.stdout, told.stderr) == (0, f"mqkit {__version__}\n", "")
    wrong = finished(["runn"], env=os.environ)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "runn" in wrong.stderr


def test_it_has_its_environment_and_its_directory(tmp_path: Path) -> None:
    """It finds a service in the directory where it starts, and has the variables it is given."""
    there = "import os, pathlib\nprint(*os.environ, pathlib.Path.cwd())\nraise SystemExit(3)\n"
    (tmp_path / "there.py").write_text(there)
    arguments = ["run", "there:service", "--url", "amqp://h"]
    for name in ("ONE", "OTHER"):
        with Command(arguments, {name: ""}, cwd=tmp_path, stdout=subprocess.PIPE) as process:
            out, _ = process.communicate(timeout=30)
        assert (process.returncode, out) == (3, f"{name} {tmp_path}\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_it_is_signalled_and_waited_for(number: signal.Signals) -> None:
    """A signal reaches it alone, and is its exit code where it ended it."""

    def begun() -> Command:
        return Command(["broker", "--port", "0"], env=os.environ, stdout=subprocess.PIPE)

    with begun() as one, begun() as other:
        for each in (one, other):
            assert each.stdout is not None
            assert "amqp://" in each.stdout.readline()
        with pytest.raises(subprocess.TimeoutExpired):
            one.wait(0.01)
        one.send_signal(number)
        assert one.wait(30) == (0 if number == signal.SIGINT else -signal.SIGKILL)
        assert other.poll() is None
        other.kill()


def test_a_shell_has_it_too(tmp_path: Path) -> None:
    """Its output, exit code, environment and directory are a command's of the shell."""
    (tmp_path / "there.py").write_text(
        "import os, pathlib\nprint(os.environ['ONE'], pathlib.Path.cwd())\n"
    )
    in_shell(tmp_path / "mqkit")
    script = "./mqkit --version; ONE=1 ./mqkit run there:service --url amqp://h; echo $?"
    done = subprocess.run(
        ["/bin/sh", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"mqkit {__version__}\n1 {tmp_path}\n2\n"
    assert "there" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_shell_s_command_ends_with_its_group(tmp_path: Path, number: signal.Signals) -> None:
    """A signal reaches it, and what kills the script kills the command."""
    in_shell(tmp_path / "mqkit")
    with subprocess.Popen(
        [tmp_path / "mqkit", "broker", "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        assert "amqp://" in process.stdout.readline()
        os.killpg(process.pid, number)
        # Until its output ends, which the command holds.
        process.communicate(timeout=30)
    assert process.returncode == (0 if number == signal.SIGINT else -signal.SIGKILL)
