"""The account of who did what with dead letters."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest

from mqkit import Publisher
from mqkit.dead_letters.audit import Audit, AuditEntry, checked_text, read_entry
from mqkit.drivers.base import Incoming
from mqkit.errors import OptionError
from mqkit.message import Message, Properties
from tests.unit.dead_letters.samples import NOW, letter

CARD = "4111111111111111"


class Kept:
    """Keeps what is published."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    async def send(self, message: Message) -> None:
        """Keep it."""
        self.messages.append(message)


def read(body: bytes) -> AuditEntry | None:
    """Read an entry of this body."""
    return read_entry(Incoming(1, False, "", "q", Properties(), body))


async def test_an_entry_says_who_what_when_and_why_without_secrets() -> None:
    """What was written is read again, and a card number in it is masked."""
    kept = Kept()
    audit = Audit(
        cast(Publisher, kept), "q", who="ann", what="drop", why=f"it has {CARD}", run="r",
        clock=lambda: NOW,
    )  # fmt: skip
    await audit.began({"filter": {"ids": [CARD]}})
    await audit.moves([letter()])
    began, moves = (read(each.body) for each in kept.messages)
    assert began is not None
    assert moves is not None
    assert (began.at, began.who, began.what, began.run) == (NOW, "ann", "drop", "r")
    assert (began.stage, moves.stage) == ("began", "moves")
    assert began.details == {"filter": {"ids": ["***"]}}
    assert moves.details["messages"][0]["id"] == "m-1"
    assert not [each for each in kept.messages if CARD.encode() in each.body]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b"[" * 100_000,
        b'{"at": 5, "who": "a", "what": "b", "why": "c", "run": "d", "stage": "e", "details": {}}',
        json.dumps(
            {"at": "2026-01-01T00:00Z", "who": 5, "what": "", "why": "", "run": "", "stage": ""}
        ).encode(),
    ],
)
def test_what_is_no_entry_is_left_out(body: bytes) -> None:
    """Anybody may publish into the audit queue, and the account stays readable."""
    assert read(body) is None


@pytest.mark.parametrize("text", ["", "  ", None, 5, "x" * 501])
def test_who_and_why_are_said(text: Any) -> None:
    """An empty reason is refused before anything is done."""
    with pytest.raises(OptionError, match="why"):
        checked_text(text, "why")
