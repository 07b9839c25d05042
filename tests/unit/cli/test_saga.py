"""`mqkit saga list` and `show`: what they print, and their exit codes."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mqkit.cli.app import app
from mqkit.errors import ConfigurationError
from mqkit.registration.sagas import SagaEntry, SagaRow
from mqkit.store import Store
from tests.unit.store.support import NOW

SECRET = "planted-secret"

STATE = {
    "order_id": "o-1",
    "password": SECRET,
    "note": f"token={SECRET}",
    "cards": [{"api_key": SECRET, "none": None}],
    "text": "a\x1b[2Jb",
}

PUBLISHED = [
    {"exchange": "risk", "routing_key": "risk.check", "message_id": "m-2", "type": "CheckRisk"},
    {
        "exchange": "",
        "routing_key": "saga.payment.timeout.risk",
        "message_id": "m-3",
        "type": "mqkit.saga.timeout",
        "delay": 5.0,
    },
]

ROW = SagaRow(
    name="payment",
    id="o-1",
    version=2,
    state_version=3,
    status="compensating",
    state=json.dumps(STATE),
    progress=json.dumps(
        {
            "timeouts": {"risk": "t"},
            "done": [{"name": "hold", "token": "u"}],
            "undoing": "u",
            "reason": f"password: {SECRET}",
        }
    ),
    started_at=NOW,
    updated_at=NOW + timedelta(seconds=5),
)

ENTRY = SagaEntry(
    name="payment",
    id="o-1",
    at=NOW,
    handler="shop.Payment.placed",
    message_id="m-1",
    message_type="PlaceOrder",
    result="ran",
    status="running",
    changes=json.dumps({"order_id": "o-1", "password": SECRET}),
    published=json.dumps(PUBLISHED),
)


@pytest.fixture
def store(tmp_path: Path) -> str:
    """A store with two sagas of one id, and one of another."""
    url = f"sqlite:///{tmp_path / 'store.sqlite'}"

    async def fill() -> None:
        async with Store(url, relay=False) as opened, opened.transaction() as transaction:
            plain = '{"timeouts": {}, "done": [], "reason": null}'
            for row in (
                ROW,
                SagaRow("refund", "o-1", 1, 1, "completed", "{}", plain, NOW, NOW),
                SagaRow("payment", "o-2", 1, 1, "running", "{}", plain, NOW, NOW),
            ):
                entry = replace(ENTRY, name=row.name, id=row.id)
                await transaction.saga_rows.insert(row, entry, keep=None)

    asyncio.run(fill())
    return url


def test_a_saga_is_shown_with_its_history(store: str) -> None:
    """Its state and what it waits for, then each message: what came, changed, and went out."""
    result = CliRunner().invoke(app, ["saga", "show", "o-1", "--name", "payment", "--store", store])
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        "payment o-1: compensating, changed 2026-03-01T12:00:05+00:00",
        "  began 2026-03-01T12:00:00+00:00",
        "  compensates: password: ***",
        "  timeouts: risk",
        "  done: hold",
        '  order_id: "o-1"',
        '  password: "***"',
        '  note: "token=***"',
        '  cards: [{"api_key": "***", "none": null}]',
        '  text: "a\\u001b[2Jb"',
        "2026-03-01T12:00:00.000+00:00 PlaceOrder m-1 -> placed: ran, running",
        '    order_id = "o-1"',
        '    password = "***"',
        "    <- CheckRisk m-2 to risk risk.check",
        "    <- mqkit.saga.timeout m-3 to saga.payment.timeout.risk, after 5.0 s",
    ]


def test_json_has_all_that_is_known_but_no_secret(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One object, with all sagas of the id; the store may come from the environment."""
    monkeypatch.setenv("MQKIT_STORE", store)
    result = CliRunner().invoke(app, ["saga", "show", "o-1", "--json"])
    assert SECRET not in result.stdout
    found = json.loads(result.stdout)
    assert found["id"] == "o-1"
    payment, refund = found["sagas"]
    assert (payment["name"], refund["name"]) == ("payment", "refund")
    assert (payment["timeouts"], payment["done"]) == (["risk"], ["hold"])
    assert (payment["state_version"], payment["changes"]) == (3, 2)
    (entry,) = payment["history"]
    assert entry["published"] == PUBLISHED
    assert entry["at"] == "2026-03-01T12:00:00+00:00"


def test_a_history_is_drawn(store: str, tmp_path: Path) -> None:
    """Its steps and messages, and nothing of its state; of one saga only."""
    file = tmp_path / "saga.svg"
    drawn = ["saga", "show", "o-1", "--store", store, "--svg", str(file)]
    result = CliRunner().invoke(app, [*drawn, "--name", "payment"])
    assert result.exit_code == 0, result.output
    svg = file.read_text()
    for words in ("1. placed", "PlaceOrder", "risk risk.check", "CheckRisk", "compensating"):
        assert words in svg
    assert SECRET not in svg
    assert isinstance(CliRunner().invoke(app, drawn).exception, ConfigurationError)


def test_sagas_are_listed_in_lines_and_as_json(store: str) -> None:
    """A line for each, those that changed last first; of a name, of a status, and so many."""

    def listed(*options: str) -> str:
        result = CliRunner().invoke(app, ["saga", "list", "--store", store, *options])
        assert result.exit_code == 0, result.output
        return result.stdout

    assert [line.partition(":")[0] for line in listed().splitlines()] == [
        "payment o-1",
        "payment o-2",
        "refund o-1",
    ]
    assert listed("--name", "refund").startswith("refund o-1: completed, changed 2026-03-01T12")
    assert listed("--status", "running").startswith("payment o-2: running")
    assert len(listed("--limit", "1").splitlines()) == 1
    assert listed("--name", "other") == ""
    assert [each["id"] for each in json.loads(listed("--json"))["sagas"]] == ["o-1", "o-2", "o-1"]
    assert SECRET not in listed("--json")


@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_an_unknown_saga_is_exit_code_1(store: str, as_json: list[str]) -> None:
    """The line names it, on stderr; with --json the object is there all the same, and empty."""
    result = CliRunner().invoke(
        app, ["saga", "show", "no\x1bne", "--name", "n", "--store", store, *as_json]
    )
    assert result.exit_code == 1
    assert "the store knows no saga no\\x1bne of the name n" in result.stderr
    assert bool(result.stdout) == bool(as_json)


def test_called_wrongly_is_exit_code_2(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A status that there is not, no store, or a limit of none."""
    monkeypatch.delenv("MQKIT_STORE", raising=False)
    for wrong in (
        ["list", "--store", store, "--limit", "0"],
        ["show"],
    ):
        assert CliRunner().invoke(app, ["saga", *wrong]).exit_code == 2
    for wrong in (["list", "--store", store, "--status", "x"], ["show", "o-1"]):
        result = CliRunner().invoke(app, ["saga", *wrong])
        assert isinstance(result.exception, ConfigurationError)
