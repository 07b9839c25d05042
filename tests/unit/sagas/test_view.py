"""Sagas and their histories are shown, also those that somebody has written by hand."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from mqkit.registration.sagas import SagaEntry, SagaRow
from mqkit.sagas import view
from mqkit.sagas.instance import Progress, Step

NOW = datetime(2026, 3, 1, tzinfo=UTC)
PROGRESS = Progress({"risk": "t"}, [Step("hold", "t")], None, "no").to_json()
ROW = SagaRow("trip", "1", 1, 1, "running", '{"n": 1, "password": "x"}', PROGRESS, NOW, NOW)
ENTRY = SagaEntry(
    name="trip",
    id="1",
    at=NOW,
    handler="h",
    message_id="m",
    message_type="M",
    result="ran",
    status="running",
    changes='{"n": 1}',
    published="[]",
)


def test_a_row_is_shown_without_secrets() -> None:
    """With the names of its timeouts and steps, and nothing is unreadable."""
    told = view.summary(ROW)
    assert (told["timeouts"], told["done"], told["reason"]) == (["risk"], ["hold"], "no")
    assert told["state"] == {"n": 1, "password": "***"}
    assert "unreadable" not in told


@pytest.mark.parametrize("progress", ["", "zzz", "[]", '{"timeouts": 3}', '{"done": [{}]}', "null"])
def test_a_progress_that_is_nonsense_hides_nothing_else(progress: str) -> None:
    """The state is shown, and the column is named."""
    told = view.summary(replace(ROW, progress=progress))
    assert (told["timeouts"], told["done"], told["unreadable"]) == ([], [], ["progress"])
    assert told["state"]["n"] == 1


@pytest.mark.parametrize("state", ["", "{", "nonsense"])
def test_a_state_that_is_nonsense_hides_nothing_else(state: str) -> None:
    """The timeouts are shown, and the column is named."""
    told = view.summary(replace(ROW, state=state))
    assert (told["state"], told["timeouts"], told["unreadable"]) == ({}, ["risk"], ["state"])


def test_an_entry_that_is_nonsense_is_shown() -> None:
    """When it came, and what for."""
    told = view.step(replace(ENTRY, changes="{", published=""))
    assert (told["changes"], told["published"], told["message_id"]) == ({}, [], "m")
