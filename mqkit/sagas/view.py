"""Shows a saga and its history as values for JSON, without secrets."""

from __future__ import annotations

import json
from typing import Any

from mqkit.logging.masking import DEFAULT, MASK, Masker
from mqkit.registration.sagas import SagaEntry, SagaRow
from mqkit.sagas.instance import Progress, progress_of


def summary(row: SagaRow, masker: Masker = DEFAULT) -> dict[str, Any]:
    """Return what there is to a saga, without its history.

    A row that somebody has written by hand is shown as far as it can be read, and `unreadable`
    names the columns that cannot: it must not hide others.
    """
    progress = _progress(row.progress)
    state = _json(row.state)
    columns = {"state": state is None, "progress": progress is None}
    unreadable = [name for name, is_so in columns.items() if is_so]
    progress = progress or Progress()
    told = {
        "name": row.name,
        "id": row.id,
        "status": row.status,
        "state": masked({} if state is None else state, masker),
        "state_version": row.state_version,
        "changes": row.version,
        "timeouts": sorted(progress.timeouts),
        "done": [step.name for step in progress.done],
        "reason": masked(progress.reason, masker),
        "started_at": row.started_at.isoformat(),
        "updated_at": row.updated_at.isoformat(),
        "completed_at": row.completed_at and row.completed_at.isoformat(),
    }
    return {**told, "unreadable": unreadable} if unreadable else told


def _progress(text: str) -> Progress | None:
    try:
        return progress_of(text)
    except ValueError:  # pydantic's, too
        return None


def _json(text: str) -> Any:
    """Return what a text holds; None, which nothing here is, where it is no JSON."""
    try:
        return json.loads(text)
    except ValueError:
        return None


def step(entry: SagaEntry, masker: Masker = DEFAULT) -> dict[str, Any]:
    """Return an entry of its history: what came, what it changed, and what was published then."""
    return {
        "at": entry.at.isoformat(),
        "handler": entry.handler,
        "message_id": entry.message_id,
        "message_type": entry.message_type,
        "result": entry.result,
        "status": entry.status,
        "changes": masked(_json(entry.changes) or {}, masker),
        "published": _json(entry.published) or [],
    }


def masked(value: Any, masker: Masker = DEFAULT) -> Any:
    """Mask what looks like a secret, by its name or by itself, in what JSON has."""
    if isinstance(value, dict):
        return {
            key: MASK if masker.hides(key) and each is not None else masked(each, masker)
            for key, each in value.items()
        }
    if isinstance(value, list):
        return [masked(each, masker) for each in value]
    return masker.mask(value) if isinstance(value, str) else value
