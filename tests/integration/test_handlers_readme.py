"""What handlers/README.md shows is so: its walkthrough is run, and its diagrams are the code's."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from handlers import messages
from handlers.invariants import Kind
from handlers.messages import Frozen, Invariant
from handlers.orders import Payment
from tests.forked import in_shell
from tests.support import ROOT

PAGE = (ROOT / "handlers" / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.mark.timeout(180)
def test_the_walkthrough_shows_what_it_says(tmp_path: Path) -> None:
    """The order is executed, copies do nothing, and the forged event is an alert."""
    (script,) = blocks("sh walkthrough")
    script = script.replace("5699", str(free_port()))
    # The commands that the page takes for installed.
    in_shell(tmp_path / "mqkit")
    (tmp_path / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (tmp_path / "python").chmod(0o755)
    environment = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "COLUMNS": "150",
    }
    with (tmp_path / "said").open("wb") as file:
        process = subprocess.Popen(
            ["/bin/sh", "-e", "-c", script],
            cwd=tmp_path,
            env={**os.environ, **environment},
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    try:
        process.wait(timeout=120)
    finally:
        # With the services that it started in the background.
        os.killpg(process.pid, signal.SIGTERM)
    said = (tmp_path / "said").read_text()
    assert process.returncode == 0, said
    assert said.endswith("the monitor has found it\n")
    before, _, after = said.partition("alerts: 0\n")
    assert re.search(r"│ end +│ executed +│ CZK +│ +1 │ +60.00 │", before), said
    assert "CZK: debits 160.00, credits 160.00, held 0.00" in before
    assert "dead-lettered to orders.place.dead" in after
    assert "placed before, with another content" in after
    assert "one-effect: deposit-cash-1: it was said to be deposit" in after


def test_the_sagas_diagram_is_its_own() -> None:
    """The page has what `Payment.diagram()` draws."""
    assert Payment.diagram() in blocks("mermaid")


def test_every_message_is_drawn() -> None:
    """Each routing key that a message names is in a diagram, or is said to be a request."""
    flow = blocks("mermaid")[0]
    drawn = set(re.findall(r"[a-z]+\.[a-z.-]+[a-z]", flow))
    for first, others in re.findall(r'"(ledger\.[a-z]+)\.[a-z]+((?:, \.[a-z]+)+)"', flow):
        drawn |= {f"{first}{other.strip()}" for other in others.split(",") if other.strip()}
    for each in vars(messages).values():
        if isinstance(each, type) and issubclass(each, Frozen) and each is not Frozen:
            keys = re.match(r"`([a-z]+\.[a-z.-]+)`: ", each.__doc__ or "")
            if keys is not None and "a request" not in (each.__doc__ or ""):
                assert keys[1] in drawn, f"{keys[1]} of {each.__name__} is not drawn"


def test_every_invariant_is_named() -> None:
    """The table has each of them, and no other."""
    named = re.findall(r"^\| `([a-z-]+)` \| [a-z]", PAGE, re.MULTILINE)
    assert named == [str(invariant) for invariant in Invariant]
    assert Kind.POSTING in PAGE
