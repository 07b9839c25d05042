"""How a command's log is set up."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import multiprocessing
from collections.abc import Iterator
from pathlib import Path

import pytest

from mqkit.cli.log_setup import LogFormat, LogOptions
from mqkit.errors import ConfigurationError

DICT = {
    "version": 1,
    "formatters": {"json": {"()": "mqkit.logging.JsonFormatter"}},
    "handlers": {"err": {"class": "logging.StreamHandler", "formatter": "json"}},
    "root": {"handlers": ["err"], "level": "WARNING"},
}

TOML = """
version = 1
formatters.plain.format = "%(levelname)s/%(message_id)s/%(message)s"
filters.fields.'()' = "mqkit.logging.FieldsFilter"
handlers.err = { class = "logging.StreamHandler", formatter = "plain", filters = ["fields"] }
root = { handlers = ["err"], level = "WARNING" }
"""

INI = """
[loggers]
keys=root
[handlers]
keys=err
[formatters]
keys=plain
[logger_root]
level=WARNING
handlers=err
[handler_err]
class=StreamHandler
formatter=plain
args=(sys.stderr,)
[formatter_plain]
format=ini %(message)s
"""


class Terminal(io.StringIO):
    """A stream that a person sees."""

    def isatty(self) -> bool:
        return True


@contextlib.contextmanager
def logged(**environment: str) -> Iterator[io.StringIO]:
    """What is logged to a terminal; logging is as it was, afterwards."""
    root, stream = logging.getLogger(), Terminal()
    handlers, level = root.handlers[:], root.level
    root.handlers[:] = []
    with (
        contextlib.redirect_stderr(stream),
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in {"TERM": "xterm", "NO_COLOR": "", **environment}.items():
            patch.setenv(name, value)
        patch.setattr(multiprocessing.current_process(), "name", "MainProcess")
        yield stream
    root.handlers[:] = handlers
    root.setLevel(level)


def test_lines_have_colours_on_a_terminal() -> None:
    """The level alone has one."""
    with logged() as stderr:
        LogOptions().start()
        logging.getLogger("shop").warning("late")
        logging.getLogger("shop").debug("unheard")
    assert stderr.getvalue().endswith(" \x1b[33mWARNING\x1b[0m  late\n")
    assert stderr.getvalue().count("\n") == 1


def test_no_color_is_respected() -> None:
    """Whatever it is set to."""
    with logged(NO_COLOR="1") as stderr:
        LogOptions().start()
        logging.getLogger("shop").warning("late")
    assert stderr.getvalue().endswith(" WARNING  late\n")


def test_what_a_module_has_set_up_stays_unless_a_format_is_asked_for() -> None:
    """A service's module may have a log of its own."""
    with logged() as stderr:
        logging.basicConfig(format="mine %(message)s", stream=stderr)
        LogOptions().start()
        logging.getLogger("shop").warning("late")
        LogOptions(format=LogFormat.JSON).start(masks=["iban"])
        logging.getLogger("shop").warning("iban=DE1")
    mine, ours = stderr.getvalue().splitlines()
    assert mine == "mine late"
    assert json.loads(ours)["message"] == "iban=***"


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("log.json", json.dumps(DICT), '"message": "late"}'),
        ("log.toml", TOML, "WARNING/None/late"),
        ("log.ini", INI, "ini late"),
    ],
)
def test_a_file_says_how(name: str, text: str, line: str, tmp_path: Path) -> None:
    """A dictionary in JSON or TOML, or an INI file; loggers that there are go on."""
    logger = logging.getLogger("shop.made-before")
    (tmp_path / name).write_text(text)
    options = LogOptions(config=str(tmp_path / name))
    options.check()
    with logged() as stderr:
        options.start()
        logger.warning("late")
    assert stderr.getvalue().rstrip("\n").endswith(line)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.json", None, "it cannot be read as json: No such file or directory"),
        ("a.json", "{", "it cannot be read as json: Expecting property name"),
        ("a.toml", "a =", "it cannot be read as toml: Invalid value"),
        (
            "a.conf",
            "x",
            "it cannot be read as INI (.json and .toml name the others): File contains",
        ),
        ("a.json", "[]", "it holds a list, and must be an object"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(
    name: str, text: str | None, words: str, tmp_path: Path
) -> None:
    """With what is wrong in it."""
    if text is not None:
        (tmp_path / name).write_text(text)
    path = str(tmp_path / name)
    with pytest.raises(ConfigurationError) as raised:
        LogOptions(config=path).check()
    assert str(raised.value).startswith(f"--log-config {path}: {words}")


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({}, "dictionary doesn't specify a version"),
        (DICT | {"root": {"handlers": ["x"]}}, "Unable to configure root logger: Unable to add"),
        (
            {"version": 1, "handlers": {"h": {"class": "no.Such"}}},
            "Unable to configure handler 'h'",
        ),
    ],
)
def test_a_file_that_says_what_cannot_be_is_named(
    found: dict[str, object], words: str, tmp_path: Path
) -> None:
    """With logging's own words."""
    file = tmp_path / "log.json"
    file.write_text(json.dumps(found))
    options = LogOptions(config=str(file))
    options.check()
    with logged(), pytest.raises(ConfigurationError) as raised:
        options.start()
    said = f"--log-config {file}: logging cannot be set up as it says: {words}"
    assert str(raised.value).startswith(said)


@pytest.mark.parametrize(
    ("options", "name"),
    [({"format": LogFormat.JSON}, "--log-format"), ({"level": 10}, "--log-level")],
)
def test_a_file_and_what_it_says_itself_are_not_both_given(
    options: dict[str, int], name: str, tmp_path: Path
) -> None:
    """Neither would be the one that counts."""
    with pytest.raises(ConfigurationError, match=f"{name}: .* says that: give one of them"):
        LogOptions(config=str(tmp_path), **options).check()  # type: ignore[arg-type]
