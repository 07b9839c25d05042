"""The demo: `python -m handlers demo`, in a small form, and what goes wrong with it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from handlers.demo.services import SERVICES
from tests.forked import Command
from tests.support import ROOT

pytestmark = pytest.mark.timeout(240)

LINK = re.compile(r"watch it in a browser: (http://\S+)")

WINDOWS = ("DISPLAY", "WAYLAND_DISPLAY")
"""By which programs find a screen; the tests open no browser there."""

SMALL = ("--orders", "40", "--accounts", "12")


@contextmanager
def demo(folder: Path, *arguments: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Run the command in a process of its own."""
    process = Command(
        ["demo", "--folder", str(folder), *arguments],
        {**os.environ, **environment},
        module="handlers",
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.communicate(timeout=120)


def ended(folder: Path, *arguments: str, **environment: str) -> tuple[int, str, str]:
    """Run the command to its end: the exit code, and what it wrote."""
    with demo(folder, *arguments, **environment) as process:
        out, err = process.communicate(timeout=200)
    return process.returncode, out, err


def processes_of(folder: Path) -> list[str]:
    """Find the processes that work with a folder, by what their environment says."""
    found = []
    for each in Path("/proc").iterdir():
        if each.name.isdigit():
            try:
                command = (each / "cmdline").read_bytes()
                # Their logs are their output.
                output = str((each / "fd" / "1").readlink())
            except OSError:
                continue
            if output.startswith(str(folder)):
                found.append(command.decode().replace("\0", " "))
    return found


def test_a_small_demo_adds_up_though_services_are_killed(tmp_path: Path) -> None:
    """Each order ends as planned, and what is reported is what was sent."""
    code, out, err = ended(tmp_path / "demo", *SMALL, "--kill", "ledger,monitoring", "--json")
    assert code == 0, err + out
    report: dict[str, Any] = json.loads(out)
    assert report["adds_up"] is True
    assert sum(report["ends"].values()) == report["orders"] == 40
    assert report["killed"] == ["ledger", "monitoring"]
    assert report["bad_messages"] == sum(report["dead_letters"].values()) == 10
    assert [check["wrong"] for check in report["checks"] if not check["holds"]] == []
    assert processes_of(tmp_path) == []


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.long)]
)
def test_ctrl_c_ends_all_processes(tmp_path: Path, number: signal.Signals) -> None:
    """Also those of the services, which are in sessions of their own; and so does SIGTERM."""
    with demo(tmp_path / "demo") as process:
        assert process.stderr is not None
        # On a busy machine it may first be told that the event loop stood still.
        lines = iter(process.stderr.readline, "")
        assert any(line.startswith(f"{len(SERVICES)} services run") for line in lines)
        assert len(processes_of(tmp_path)) == len(SERVICES) + 1
        process.send_signal(number)
        process.communicate(timeout=120)
    assert process.returncode == 130
    assert processes_of(tmp_path) == []


def test_a_demo_that_is_killed_leaves_no_process(tmp_path: Path) -> None:
    """Each stops by itself, with the broker, the supervisors and what these have started."""
    with demo(tmp_path / "demo") as process:
        assert process.stderr is not None
        lines = iter(process.stderr.readline, "")
        assert any(line.startswith(f"{len(SERVICES)} services run") for line in lines)
        assert len(processes_of(tmp_path)) == len(SERVICES) + 1
        process.kill()
        process.wait()
    deadline = time.monotonic() + 60
    while processes_of(tmp_path):
        assert time.monotonic() < deadline, processes_of(tmp_path)
        time.sleep(0.1)
    for log in tmp_path.rglob("*.log"):
        assert "Traceback" not in log.read_text(), log


def look_into(link: str) -> str:
    """Open the console by its link, as a browser that keeps cookies; returns its first page."""
    jar = urllib.request.HTTPCookieProcessor()
    with urllib.request.build_opener(jar).open(link, timeout=30) as answer:
        first = str(answer.read().decode())
    # The login leads on by a page, so that the cookie is sent along.
    with urllib.request.build_opener(jar).open(link.partition("/login")[0], timeout=30) as answer:
        return first + str(answer.read().decode())


def test_the_console_watches_a_demo_and_ends_with_it(tmp_path: Path) -> None:
    """Where there is no terminal; it shows the services by a link that is printed"""
    with demo(tmp_path, *SMALL, "--kill", "ledger,orders", "--watch") as process:
        assert process.stderr is not None
        lines = []
        for line in process.stderr:
            lines.append(line)
            if (found := LINK.search(line)) is not None:
                break
        else:
            pytest.fail(f"no link: {lines}")
        page = look_into(found[1])
        assert "mqkit console" in page
        assert "Log out" in page
        out, err = process.communicate(timeout=200)
    assert process.returncode == 0, out + err
    assert "Everything adds up." in out
    assert processes_of(tmp_path) == []
    assert "Traceback" not in (tmp_path / "console.log").read_text()


@pytest.mark.long
def test_on_a_terminal_the_console_stays_with_the_services(tmp_path: Path) -> None:
    """Until Ctrl-C, which ends all of it and is no failure of the demo"""
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "handlers", "demo", "--folder", str(tmp_path), *SMALL]
    process = subprocess.Popen(
        [*command, "--kill", "", "--watch"],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name not in WINDOWS},
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
    )
    os.close(theirs)
    said = ""
    try:
        while "Ctrl-C ends it" not in said:
            said += os.read(ours, 10_000).decode(errors="replace")
        link = LINK.search(said.replace("\r", ""))
        assert link is not None, said
        assert "Log out" in look_into(link[1])
        assert len(processes_of(tmp_path)) == len(SERVICES) + 2, "the broker and the console, too"
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert process.returncode == 0, out
    assert "Everything adds up." in out
    assert processes_of(tmp_path) == []


def test_a_port_in_use_is_said(tmp_path: Path) -> None:
    """The exit code is 1, and the last words of the broker name the port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        code, _, err = ended(tmp_path / "demo", *SMALL, "--port", str(port))
    assert code == 1
    assert f"cannot listen on 127.0.0.1:{port}" in err
    assert "Traceback" not in err


def test_a_service_that_does_not_start_is_said(tmp_path: Path) -> None:
    """The exit code is 1, with the end of its log, and the others are ended."""
    # Read by each Python at its start.
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\n"
        "if 'handlers.risk:service' in sys.orig_argv:\n"
        "    os.write(2, b'risk is broken today')\n"
        "    os._exit(3)\n"
    )
    code, _, err = ended(tmp_path / "demo", *SMALL, PYTHONPATH=str(tmp_path))
    assert "risk ended with exit code 3" in err
    assert err.rstrip().endswith("risk is broken today")
    assert code == 1, err
    assert "Traceback" not in err
    assert processes_of(tmp_path) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--kill", "ledger,broker"), "'broker' is not one of orders, risk"),
        (("--accounts", "5"), "ten accounts or more"),
        (("--orders", "15", "--accounts", "20"), "an order for each"),
        (("--port", "70000"), "less than or equal to 65535"),
    ],
)
def test_a_wrong_call_is_refused(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    """The exit code is 2, and nothing is started or made."""
    code, _, err = ended(tmp_path / "demo", *arguments)
    assert code == 2
    assert said in " ".join(err.replace("│", " ").split())
    assert not (tmp_path / "demo").exists()


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    """The exit code is 2, and what is in it stays."""
    (tmp_path / "thesis.txt").write_text("years of work")
    code, _, err = ended(tmp_path, *SMALL)
    assert code == 2
    assert "is not empty, and not a demo's" in err
    assert (tmp_path / "thesis.txt").read_text() == "years of work"
