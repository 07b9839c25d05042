"""A saga's state is read as it was written, in this version or from an older one, or refused."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import BaseModel, Field, PrivateAttr

from mqkit import Queue
from mqkit.errors import UncountedError
from mqkit.registration.sagas import SagaRow
from mqkit.sagas import Saga, SagaMigrationError, SagaStateError, SagaVersionError, starts
from mqkit.sagas.declaration import Declaration
from mqkit.sagas.states import check_version, read_state, write_state

SECRET = "planted-secret"


class Note(BaseModel):
    """A message."""

    id: str


class State(BaseModel):
    """A state with what is hard to keep."""

    text: str = ""
    number: float = 0.0
    alias: int = Field(default=0, alias="otherName")
    hidden: int = Field(default=0, exclude=True)
    _private: int = PrivateAttr(0)


class Third(Saga[State], name="third", version=3):
    """A saga that was changed twice."""

    @classmethod
    def migrate(cls, version: int, data: dict[str, Any]) -> Any:
        """Make a state of version 3."""
        if data.get("fails"):
            raise ValueError(SECRET)
        return data.get("returned", {"text": f"from {version}"})

    @starts(Queue("q"), by="id")
    async def start(self, note: Note) -> None:
        """Start it."""


THIRD: Declaration = Third.declaration()


def row(version: int, state: str) -> SagaRow:
    """A row with that state."""
    now = datetime.now(UTC)
    return SagaRow("third", "1", 1, version, "running", state, "{}", now, now)


def test_a_state_is_read_as_it_was_written() -> None:
    """Text with NUL, and fields by their aliases."""
    state = State(text="a\0b", otherName=3)
    text = write_state(THIRD, "1", state)
    assert "\0" not in text
    assert read_state(THIRD, row(3, text)) == state


def private() -> State:
    """Not in the JSON."""
    state = State()
    state._private = 1
    return state


@pytest.mark.parametrize(
    ("state", "problem"),
    [
        (State(number=float("inf")), "cannot be kept as JSON|does not come back"),
        (State(hidden=1), "does not come back from JSON as it was"),
        (private(), "does not come back from JSON as it was"),
        (State.model_construct(text=3), "cannot be kept as JSON"),
        (State(text="\ud800"), "cannot be kept as JSON"),
        (Note(id="1"), "its state is a State, not <class"),
        (None, "its state is a State, not <class 'NoneType'>"),
    ],
)
def test_a_state_that_would_not_come_back_is_refused(state: object, problem: str) -> None:
    """When it is to be written, by the run that made it so."""
    with pytest.raises(SagaStateError, match=f"saga third '1': .*({problem})"):
        write_state(THIRD, "1", state)


@pytest.mark.parametrize("version", [1, 2])
def test_an_older_state_is_migrated(version: int) -> None:
    """By the class's function, which is told of what version it is."""
    assert read_state(THIRD, row(version, "{}")) == State(text=f"from {version}")


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ({"fails": True}, "migrate from version 1 to 3 failed with ValueError"),
        ({"returned": [1]}, "migrate from version 1 to 3 returned list, and not a dict"),
        ({"returned": {"text": []}}, "migrate from version 1 to 3 returned what is no State"),
    ],
)
def test_a_migration_that_fails_is_an_error(data: dict[str, Any], problem: str) -> None:
    """It says which one, and has no secret of the state in it."""
    with pytest.raises(SagaMigrationError, match=problem) as caught:
        read_state(THIRD, row(1, json.dumps(data)))
    assert SECRET not in str(caught.value)


def test_a_state_that_is_none_of_this_version_is_an_error() -> None:
    """Its class was changed and has the same version, say."""
    with pytest.raises(SagaStateError, match="its state of version 3 is no State"):
        read_state(THIRD, row(3, '{"text": []}'))


def test_a_newer_state_is_refused_and_costs_no_attempt() -> None:
    """The message is to wait for a process that knows the version."""
    check_version(THIRD, row(3, "{}"))
    with pytest.raises(
        SagaVersionError, match="state of version 4, and this process has version 3"
    ) as e:
        check_version(THIRD, row(4, "{}"))
    assert isinstance(e.value, UncountedError)
    assert e.value.wait is not None
    assert 5 <= e.value.wait <= 15
