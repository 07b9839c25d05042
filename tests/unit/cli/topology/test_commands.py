"""What `mqkit topology` refuses before it asks a broker, and the picture that it draws."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from mqkit.cli.app import app
from mqkit.errors import ConfigurationError, MqkitError

SERVICE = "tests.integration.topology.services:wanted"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["apply", SERVICE, "--plan", "/no/such/plan"], "--plan /no/such/plan cannot be read: No"),
        (["apply", SERVICE, "--plan", "."], "--plan . cannot be read: Is a directory"),
        (["apply", SERVICE, "--plan", "bytes"], "--plan bytes cannot be read: it is no UTF-8"),
        (["graph", SERVICE, "--svg", "a.svg", "--out", "b.svg"], "leave out --out"),
        (["graph", SERVICE, "--svg", "/no/such/folder/a.svg"], "cannot be written: No such file"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(
    arguments: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error has the option's name, the path and the system's reason, and no number."""
    monkeypatch.chdir(tmp_path)
    Path("bytes").write_bytes(b"\xff\xfe")
    done = CliRunner().invoke(
        app, ["topology", *arguments], env={"MQKIT_URL": "amqp://127.0.0.1:1"}
    )
    assert isinstance(done.exception, MqkitError)
    assert words in str(done.exception)
    assert "Errno" not in str(done.exception)


@pytest.mark.parametrize("value", ["", "\udcff", "a\nb", "a\0b", "n" * 256])
@pytest.mark.parametrize("option", ["--user", "--vhost"])
def test_what_nobody_can_be_called_is_refused(option: str, value: str) -> None:
    """It would be printed into a command for a shell, or could not be printed at all."""
    done = CliRunner().invoke(app, ["topology", "permissions", SERVICE, option, value])
    assert isinstance(done.exception, ConfigurationError)
    assert "name" in str(done.exception)


def test_a_graph_is_drawn_into_the_file_that_svg_names(tmp_path: Path) -> None:
    """As --format svg --out does, and nothing is printed."""
    one, other = tmp_path / "one.svg", tmp_path / "other.svg"
    for options in (["--svg", str(one)], ["--format", "svg", "--out", str(other)]):
        done = CliRunner().invoke(app, ["topology", "graph", SERVICE, *options])
        assert (done.exit_code, done.output) == (0, "")
    assert one.read_text().startswith("<svg")
    assert one.read_text() == other.read_text()
