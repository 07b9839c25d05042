"""Whose a line is: the output of one process of several."""

from __future__ import annotations

import io
import logging
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqkit.cli.labels import LabelledOutput
from mqkit.cli.log_lines import LineFormatter


@given(st.lists(st.text(alphabet="ab\n", max_size=8)))
def test_each_line_has_its_label_however_it_is_written(parts: list[str]) -> None:
    """Lines are whole and in their order; the last one waits for its end."""
    stream = io.StringIO()
    output = LabelledOutput(stream, "ledger.2")
    for part in parts:
        output.write(part)
    whole = "".join(parts).split("\n")
    assert stream.getvalue() == "".join(f"[ledger.2] {line}\n" for line in whole[:-1])
    output.finish()
    last = f"[ledger.2] {whole[-1]}\n" if whole[-1] else ""
    assert stream.getvalue().endswith(last)


SCRIPT = """
import sys, threading
from mqkit.cli.labels import label_output
label_output("process 2")
print("a", end=" ")
print("b")
label_output("ledger.2")
print("c", file=sys.stderr)
print("held", end="")
raise RuntimeError("two\\nlines")
"""


def test_what_is_printed_and_tracebacks_are_labelled() -> None:
    """Also what the interpreter writes at its end, and a last line without an end."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False
    )
    assert done.stdout == "[process 2] a b\n[ledger.2] held\n"
    lines = done.stderr.splitlines()
    assert lines[:2] == ["[ledger.2] c", "[ledger.2] Traceback (most recent call last):"]
    assert lines[-2:] == ["[ledger.2] RuntimeError: two", "[ledger.2] lines"]


def test_a_record_is_one_line_and_its_traceback_is_indented(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nothing that a record or an error quotes begins a line, or reaches the terminal."""
    forged = "2026-01-01 00:00:00,000 CRITICAL forged\x1b[2J"
    error = RuntimeError(f"x\n{forged}")
    logging.getLogger("test").error("y\n%s", forged, exc_info=error)
    text = LineFormatter("%(levelname)s %(message)s").format(caplog.records[-1])
    first, *others = text.split("\n")
    assert first == f"ERROR y\\n{forged}".replace("\x1b", "\\x1b")
    assert all(line.startswith("  ") and line.isprintable() for line in others)
    assert any("forged" in line for line in others)
