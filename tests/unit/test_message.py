"""Frozen dataclasses that are made fast."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

import pytest

from mqkit.drivers.base import Incoming
from mqkit.message import Message, Properties, maker
from mqkit.publishing.outgoing import Outgoing
from mqkit.publishing.pipeline import PublishResult


@dataclass(frozen=True, slots=True)
class Point:
    """A dataclass with all that a field may have."""

    x: int
    y: int = 2
    tags: list[str] = field(default_factory=list)
    _: dataclasses.KW_ONLY
    name: str = "a"


def test_what_is_made_is_an_instance_like_any_other() -> None:
    """Positional and named arguments and defaults give what the class itself would give."""
    make = maker(Point)
    assert make(1) == Point(1)
    assert make(1, 3, ["t"], name="b") == Point(1, 3, ["t"], name="b")
    assert type(make(1)) is Point
    assert make(1).tags is not make(1).tags
    assert repr(make(5)) == repr(Point(5))
    assert dataclasses.replace(make(1), y=4) == Point(1, 4)
    with pytest.raises(TypeError):
        make()  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        make(1, 2, [], "b")  # type: ignore[call-arg]


def test_what_is_made_is_frozen() -> None:
    """It cannot be changed, nor get an attribute that its class has not."""
    point = maker(Point)(1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        point.x = 2  # type: ignore[misc]
    with pytest.raises((dataclasses.FrozenInstanceError, TypeError, AttributeError)):
        point.z = 2  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("made", "usual"),
    [
        (
            maker(Incoming)(1, False, "e", "k", Properties(), b""),
            Incoming(1, False, "e", "k", Properties(), b""),
        ),
        (maker(Properties)(app_id="a"), Properties(app_id="a")),
        (maker(Message)("e", "k", b""), Message("e", "k", b"")),
        (maker(Outgoing)("e", "k", b""), Outgoing("e", "k", b"")),
        (maker(PublishResult)(1, "id", None), PublishResult(1, "id", None)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_those_of_a_message_are_equal_to_the_usual_ones(made: object, usual: object) -> None:
    """The values that every message has some of are the same by either way."""
    assert made == usual
    assert type(made) is type(usual)
