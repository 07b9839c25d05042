"""Whose a line is: the output of one process of several."""

from __future__ import annotations

import io
import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from mqkit.cli.labels import LabelledOutput


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
