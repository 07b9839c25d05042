from __future__ import annotations

import io
import os
import re
from pathlib import Path

import pytest

from mqkit.cli.publish import json_lines
from mqkit.cli.publish.json_lines import count_lines, read_lines
from mqkit.errors import ConfigurationError


def test_lines_are_sent_as_they_are() -> None:
    """Bodies are the lines' bytes without the line end; blank lines are left out but counted."""
    file = io.BytesIO(b'{"a": 1}\n\n  [1, 2] \r\n   \n"\xc3\xa9"')
    lines = [(line.number, line.body, line.problem) for line in read_lines(file)]
    assert lines == [(1, b'{"a": 1}', None), (3, b"  [1, 2] ", None), (5, b'"\xc3\xa9"', None)]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"{bad", "not JSON: .* at column 2"),
        (b'{"a": 1} x', "trailing characters at column 10"),
        (b'{"a": NaN}', "not JSON"),
        (b"Infinity", "not JSON"),
        (b'"\xff"', "not UTF-8: byte 2"),
        (b"\xff\xfe{\x00}\x00", "not UTF-8: byte 1"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        (b"[" * 100_000, "not JSON"),
    ],
)
def test_what_is_not_json(line: bytes, problem: str) -> None:
    """A line that is no JSON says why, and the line behind it is read."""
    first, second = read_lines(io.BytesIO(line + b"\n{}\n"))
    assert first.problem is not None
    assert re.search(problem, first.problem)
    assert (second.number, second.body, second.problem) == (2, b"{}", None)


def test_a_line_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line longer than any message may be is reported, not held whole; the next one is read."""
    monkeypatch.setattr(json_lines, "MAX_LINE", 10)
    first, second, third = read_lines(io.BytesIO(b"1" * 10 + b"\n" + b"1" * 35 + b"\n2\n"))
    assert first.problem is None
    assert second.problem == "longer than 10 bytes"
    assert len(second.body) < 12
    assert (third.number, third.body) == (3, b"2")


def test_what_cannot_be_read_again(tmp_path: Path) -> None:
    """A pipe, standard input, a directory and a missing file are refused by name."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path("-")):
        with pytest.raises(ConfigurationError, match=f"{path.name} is not a regular file"):
            count_lines(path)
    with pytest.raises(ConfigurationError, match="does not exist"):
        count_lines(tmp_path / "missing")


def test_blank_lines_do_not_count(tmp_path: Path) -> None:
    """The total of the progress bar is what there is to send."""
    (tmp_path / "f").write_bytes(b"1\n\n \r\n2\n3")
    assert count_lines(tmp_path / "f") == 3
