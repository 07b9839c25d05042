"""What `mqkit run --reload` watches, and what it needs."""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mqkit.cli.app import app
from mqkit.cli.supervisor.reload import folders_outside
from mqkit.errors import ConfigurationError


def test_modules_from_elsewhere_are_watched(tmp_path: Path) -> None:
    """A library next door is; the folder itself, what is installed and what is no file are not."""
    here, there = tmp_path / "shop", tmp_path / "library" / "money"
    environment = tmp_path / "base" / "site-packages" / "money"
    for folder in (here / "deep", there, environment):
        folder.mkdir(parents=True)
    files = [
        str(here / "ledger.py"),
        str(here / "deep" / "rules.py"),
        str(there / "__init__.py"),
        str(there / "native.so"),
        str(environment / "__init__.py"),
        str(tmp_path / "gone" / "away.py"),
        str(Path(sysconfig.get_path("stdlib")) / "json" / "__init__.py"),
        pytest.__file__,
        "<frozen importlib._bootstrap>",
    ]
    assert folders_outside(files, here) == {there}


def test_without_its_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library is an extra, and the error names it."""
    monkeypatch.delitem(sys.modules, "mqkit.cli.supervisor.reload")
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    done = CliRunner().invoke(app, ["run", "shop:service", "--reload"])
    assert isinstance(done.exception, ConfigurationError)
    assert "pip install 'mqkit[reload]'" in str(done.exception)


def test_it_is_said_to_be_for_development() -> None:
    """Whoever reads the help knows that it is nothing for production."""
    text = " ".join(CliRunner().invoke(app, ["run", "--help"]).output.replace("│", " ").split())
    assert "never in production" in text
