"""Reads a saga's state from its row, of whichever version, and writes it."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticSerializationError, to_json

from mqkit.checks import checked
from mqkit.registration.sagas import SagaRow
from mqkit.sagas.declaration import Declaration
from mqkit.sagas.errors import SagaMigrationError, SagaStateError, SagaVersionError


def check_version(declaration: Declaration, row: SagaRow) -> None:
    """Refuse a saga that a newer version of its class has written.

    :raises SagaVersionError: it is such a one
    """
    if row.state_version > declaration.options.version:
        raise SagaVersionError(
            f"{declaration.what} {row.id!r} has a state of version {row.state_version}, and this "
            f"process has version {declaration.options.version} of it; the message is held until "
            "a process with that version takes it"
        )


def read_state(declaration: Declaration, row: SagaRow) -> BaseModel:
    """Return the state of a row, migrated where an older version wrote it.

    :raises SagaMigrationError: that failed
    :raises SagaStateError: it does not validate
    """
    what = f"{declaration.what} {row.id!r}"
    if row.state_version == declaration.options.version:
        try:
            return declaration.state_type.model_validate_json(row.state)
        except ValueError as error:
            raise SagaStateError(
                f"{what}: its state of version {row.state_version} is no "
                f"{declaration.state_type.__qualname__}; a class that changes what its state is "
                "has another version, and a migrate"
            ) from error
    where = f"{what}: migrate from version {row.state_version} to {declaration.options.version}"
    try:
        migrated: Any = declaration.saga.migrate(row.state_version, json.loads(row.state))
    except Exception as error:
        raise SagaMigrationError(f"{where} failed with {type(error).__name__}") from error
    if not isinstance(migrated, dict):
        raise SagaMigrationError(f"{where} returned {type(migrated).__name__}, and not a dict")
    try:
        return declaration.state_type.model_validate_json(to_json(migrated))
    except (ValueError, PydanticSerializationError) as error:
        raise SagaMigrationError(
            f"{where} returned what is no {declaration.state_type.__qualname__}"
        ) from error


def write_state(declaration: Declaration, saga_id: str, state: object) -> str:
    """Write a state as JSON, from which the same is read.

    :raises SagaStateError: it is of another type, or would be read as something else
    """
    what, kind = f"{declaration.what} {saga_id!r}", declaration.state_type
    if type(state) is not kind:
        raise SagaStateError(
            f"{what}: its state is a {kind.__qualname__}, not {checked.shown(type(state))}"
        )
    assert isinstance(state, BaseModel)
    try:
        text = state.model_dump_json(by_alias=True, warnings="error")
        is_same = kind.model_validate_json(text) == state
    except (ValueError, PydanticSerializationError, UnicodeError) as error:
        raise SagaStateError(f"{what}: its state cannot be kept as JSON") from error
    if not is_same:
        raise SagaStateError(
            f"{what}: its state does not come back from JSON as it was: a private or excluded "
            "field, say, or a float that is no number"
        )
    return text
