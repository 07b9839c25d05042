"""From what was typed to a service."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mqkit import ConfigurationError
from mqkit.cli.services import ServiceImportError, load_service
from mqkit.errors import ServiceNotFoundError


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with a module that has a service."""
    (tmp_path / "shop_for_tests.py").write_text(
        "from mqkit import Service\nservice = Service('shop')\nother = 5\n"
    )
    (tmp_path / "broken_for_tests.py").write_text("import not_there_at_all\n")
    (tmp_path / "wrong_for_tests.py").write_text("import mqkit\n\nmqkit.Queue('')\n")
    (tmp_path / "empty_for_tests.py").write_text("x = (\n")
    (tmp_path / "part_for_tests").mkdir()
    (tmp_path / "part_for_tests" / "__init__.py").touch()
    (tmp_path / "part_for_tests" / "ledger.py").write_text(
        "import shop_for_tests as s\nb = s.service\n"
    )
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "ledger_elsewhere.py").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))


def test_a_service_is_found_in_the_current_folder() -> None:
    """MODULE:SERVICE imports from where the command runs."""
    assert load_service("shop_for_tests:service").name == "shop"


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("shop_for_tests", "is not MODULE:SERVICE; did you mean shop_for_tests:service?"),
        ("shop_for_tests.service", "is not MODULE:SERVICE; did you mean shop_for_tests:service?"),
        ("shop_for_tests.py", "is not MODULE:SERVICE; did you mean shop_for_tests:service?"),
        ("./shop_for_tests.py:servise", "did you mean shop_for_tests:service?"),
        ("part_for_tests/ledger.py", "did you mean part_for_tests.ledger:b?"),
        ("{here}/part_for_tests/ledger.py", "did you mean part_for_tests.ledger:b?"),
        ("no_such_module", "is not MODULE:SERVICE; for example no_such_module:service"),
        ("broken_for_tests", "is not MODULE:SERVICE; for example broken_for_tests:service"),
        ("", "is not MODULE:SERVICE; for example shop:service"),
        (":service", "is not MODULE:SERVICE"),
        (".shop:service", "is not MODULE:SERVICE"),
        ("shoop_for_tests:service", "no module 'shoop_for_tests' (looked from"),
        ("shoop_for_tests:service", "did you mean shop_for_tests?"),
        ("part_for_tests.legder:b", "did you mean part_for_tests.ledger?"),
        ("ledger_elsewhere:service", "there is one in src/: run the command from there"),
        ("shop_for_tests:servise", "did you mean shop_for_tests:service?"),
        ("shop_for_tests:other", "is int, not a Service; did you mean shop_for_tests:service?"),
        ("json:service", "no Service at all"),
    ],
)
def test_a_typo_is_explained(spec: str, words: str, tmp_path: Path) -> None:
    """What is no service is refused, with what was probably meant."""
    with pytest.raises(ServiceNotFoundError) as caught:
        load_service(spec.format(here=tmp_path))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        (
            "broken_for_tests",
            [
                "Traceback (most recent call last):",
                '  File "{here}/broken_for_tests.py", line 1, in <module>',
                "    import not_there_at_all",
                "ModuleNotFoundError: No module named 'not_there_at_all'",
            ],
        ),
        (
            "empty_for_tests",
            [
                '  File "{here}/empty_for_tests.py", line 1',
                "    x = (",
                "        ^",
                "SyntaxError: '(' was never closed",
            ],
        ),
    ],
)
def test_an_import_that_fails_shows_the_modules_own_lines(
    name: str, lines: list[str], tmp_path: Path
) -> None:
    """None of mqkit's or of the import's machinery, which say nothing about what is wrong."""
    with pytest.raises(ServiceImportError, match=f"module '{name}' cannot be imported") as caught:
        load_service(f"{name}:service")
    (note,) = caught.value.__notes__
    assert note.splitlines() == [line.format(here=tmp_path) for line in lines]


def test_a_wrong_declaration_is_shown_where_it_stands() -> None:
    """The line of the application's module is named, and not mqkit's that has refused it."""
    with pytest.raises(ConfigurationError, match="a queue needs a name") as caught:
        load_service("wrong_for_tests:service")
    assert caught.value.__notes__ == ["wrong_for_tests.py, line 3: mqkit.Queue('')"]
