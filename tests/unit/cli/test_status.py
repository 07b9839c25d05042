"""`mqkit status`: what it prints, and its exit codes."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mqkit.cli.app import app
from mqkit.errors import ConfigurationError
from mqkit.message import Delivery, Properties
from mqkit.outcome import DeadLetter, DeathReason, RetryAfter
from mqkit.store import Store, Transaction

SECRET = "planted-secret"


@pytest.fixture
def store(tmp_path: Path) -> str:
    """A store that knows some messages."""
    url = f"sqlite:///{tmp_path / 'store.sqlite'}"

    async def fill() -> None:
        def delivery(message_id: str) -> Delivery:
            return Delivery(properties=Properties(message_id=message_id), queue="q", attempt=2)

        async def run(transaction: Transaction) -> dict[str, int]:
            await transaction.publish("e", "k", b"", message_id="outgoing")
            return {"total": 3}

        async with Store(url, relay=False) as opened:
            await opened.run_once("h", delivery("done"), run)
            opened.settled("h", delivery("later"), RetryAfter(30, ValueError("not yet")))
            error = ValueError("bad\n\x1b[2Jbody")
            opened.settled("h", delivery("dead"), DeadLetter(DeathReason.UNDECODABLE, error))
            opened.received("other", delivery("dead"))

    asyncio.run(fill())
    return url


@pytest.mark.parametrize(
    ("message_id", "words"),
    [
        ("done", ["h (queue q): succeeded, attempt 2, ", 'result {"total":3}']),
        ("later", ["h (queue q): retrying, attempt 2, ", ", next ", "  ValueError: not yet"]),
        ("dead", ["h (queue q): dead", "ValueError: bad\\n\\x1b[2Jbody", "other (queue q): rec"]),
        ("outgoing", ["in the outbox: outgoing, "]),
    ],
)
def test_a_known_message_is_told_of_in_lines(store: str, message_id: str, words: list[str]) -> None:
    """A line for each handler, then its error or result; nothing in it moves the cursor."""
    result = CliRunner().invoke(app, ["status", message_id, "--store", store])
    assert result.exit_code == 0, result.output
    for word in words:
        assert word in result.stdout
    assert "\x1b" not in result.stdout


def test_json_has_all_that_is_known(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One object; the store may come from the environment."""
    monkeypatch.setenv("MQKIT_STORE", store)
    result = CliRunner().invoke(app, ["status", "later", "--json"])
    found = json.loads(result.stdout)
    (state,) = found["states"]
    assert found["message_id"] == state["message_id"] == "later"
    assert (state["state"], state["handler"], state["attempt"]) == ("retrying", "h", 2)
    assert (state["error_type"], state["error"]) == ("ValueError", "not yet")
    assert state["retry_at"] > state["updated_at"]


@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_an_unknown_message_is_exit_code_1(store: str, as_json: list[str]) -> None:
    """The line names it, on stderr; with --json the object is there all the same, and empty."""
    result = CliRunner().invoke(app, ["status", "no\x1bne", "--store", store, *as_json])
    assert result.exit_code == 1
    assert "the store knows no message no\\x1bne" in result.stderr
    if as_json:
        assert json.loads(result.stdout) == {"message_id": "no\x1bne", "states": []}
    else:
        assert result.stdout == ""


def test_without_a_store_it_says_what_to_give(monkeypatch: pytest.MonkeyPatch) -> None:
    """And a URL that is none is not quoted with its password."""
    monkeypatch.delenv("MQKIT_STORE", raising=False)
    result = CliRunner().invoke(app, ["status", "m"])
    assert isinstance(result.exception, ConfigurationError)
    assert "--store postgresql://" in str(result.exception)
    wrong = CliRunner().invoke(app, ["status", "m", "--store", f"mysql://u:{SECRET}@h/db"])
    assert isinstance(wrong.exception, ConfigurationError)
    assert SECRET not in str(wrong.exception)


def test_it_makes_neither_a_file_nor_tables(tmp_path: Path) -> None:
    """Asking a wrong path changes nothing there."""
    path = tmp_path / "none.sqlite"
    result = CliRunner().invoke(app, ["status", "m", "--store", f"sqlite:///{path}"])
    assert "no such file" in str(result.exception)
    assert not path.exists()


@pytest.mark.parametrize(
    ("message_id", "words"),
    [
        ("done", [">h<", ">q<", "succeeded, attempt 2, "]),
        ("later", ["waits for its retry", ">ValueError<"]),
        ("dead", [">q.dead<", ">ValueError<", ">other<"]),
        ("outgoing", [">outbox<", "outgoing, "]),
    ],
)
def test_a_way_is_drawn(store: str, tmp_path: Path, message_id: str, words: list[str]) -> None:
    """The queues and handlers of a message, its retry and its end; of an error the type alone."""
    file = tmp_path / "way.svg"
    result = CliRunner().invoke(app, ["status", message_id, "--store", store, "--svg", str(file)])
    assert result.exit_code == 0, result.output
    svg = file.read_text()
    for word in words:
        assert word in svg
    assert "body" not in svg


def test_a_drawing_that_cannot_be_written_is_named(store: str, tmp_path: Path) -> None:
    """The line names the file and why."""
    file = str(tmp_path / "nowhere" / "way.svg")
    result = CliRunner().invoke(app, ["status", "done", "--store", store, "--svg", file])
    assert isinstance(result.exception, ConfigurationError)
    assert "way.svg cannot be written: No such file or directory" in str(result.exception)
