"""Shows a saga and its history as values for JSON, without secrets."""

from __future__ import annotations

import json
from typing import Any

from mqkit.logging.masking import DEFAULT, MASK, Masker
from mqkit.registration.sagas import SagaEntry, SagaRow


def summary(row: SagaRow, masker: Masker = DEFAULT) -> dict[str, Any]:
    """Return what there is to a saga, without its history."""
    progress = json.loads(row.progress)
    return {
        "name": row.name,
        "id": row.id,
        "status": row.status,
        "state": masked(json.loads(row.state), masker),
        "state_version": row.state_version,
        "changes": row.version,
        "timeouts": sorted(progress["timeouts"]),
        "done": [step["name"] for step in progress["done"]],
        "reason": masked(progress["reason"], masker),
        "started_at": row.started_at.isoformat(),
        "updated_at": row.updated_at.isoformat(),
        "completed_at": row.completed_at and row.completed_at.isoformat(),
    }


def step(entry: SagaEntry, masker: Masker = DEFAULT) -> dict[str, Any]:
    """Return an entry of its history: what came, what it changed, and what was published then."""
    return {
        "at": entry.at.isoformat(),
        "handler": entry.handler,
        "message_id": entry.message_id,
        "message_type": entry.message_type,
        "result": entry.result,
        "status": entry.status,
        "changes": masked(json.loads(entry.changes), masker),
        "published": json.loads(entry.published),
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
