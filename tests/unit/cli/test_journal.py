"""The journal of `mqkit publish`."""

from __future__ import annotations

from pathlib import Path

import pytest

from mqkit.cli.journal import Journal, JournalError, line_hash, message_id


def journal(path: Path, exchange: str = "x", key: str = "k") -> Journal:
    """As a run opens it."""
    return Journal(path, exchange=exchange, routing_key=key)


def test_confirmed_lines_are_known_to_the_next_run(tmp_path: Path) -> None:
    """A line is skipped by number and content: a changed one is a new one."""
    path = tmp_path / "j"
    with journal(path) as notes:
        notes.add(1, line_hash(b"a"))
    with journal(path) as notes:
        notes.add(3, line_hash(b"c"))
    again = journal(path)
    assert len(again) == 2
    assert again.has(1, line_hash(b"a"))
    assert not again.has(1, line_hash(b"changed"))
    assert not again.has(2, line_hash(b"a"))


def test_a_torn_last_line_counts_as_not_sent(tmp_path: Path) -> None:
    """Whatever a crash cut off is dropped, and the journal can be written on."""
    path = tmp_path / "j"
    with journal(path) as notes:
        for number in range(5):
            notes.add(number, line_hash(b""))
    whole = path.read_bytes()
    for cut in range(1, len(whole.splitlines(keepends=True)[-1]) + 1):
        path.write_bytes(whole[:-cut])
        with journal(path) as notes:
            assert len(notes) == 4
            notes.add(9, line_hash(b""))
        assert len(journal(path)) == 5


def test_a_journal_of_something_else_is_refused(tmp_path: Path) -> None:
    """Another exchange, and a file that is no journal, are errors that say so."""
    path = tmp_path / "j"
    with journal(path):
        pass
    with pytest.raises(JournalError, match="exchange 'x' with routing key 'k'"):
        journal(path, exchange="other")
    path.write_text('{"some": "json"}\n')
    with pytest.raises(JournalError, match="is not a journal"):
        journal(path)
    path.write_text("text\n")
    with pytest.raises(JournalError, match="is not a journal"):
        journal(path)


def test_begun_anew_nothing_of_it_is_left(tmp_path: Path) -> None:
    """After forget() the old lines are gone from the file too."""
    path = tmp_path / "j"
    with journal(path) as notes:
        notes.add(1, "a")
    fresh = journal(path)
    fresh.forget()
    with fresh:
        fresh.add(2, "b")
    assert (len(journal(path)), journal(path).has(2, "b")) == (1, True)


def test_a_lines_message_keeps_its_id() -> None:
    """The same line to the same place has the same id; anything else has another."""
    one = message_id("x", "k", 1, "h")
    assert one == message_id("x", "k", 1, "h")
    others = {message_id(*a) for a in (("y", "k", 1, "h"), ("x", "l", 1, "h"), ("x", "k", 2, "h"))}
    assert len({one, *others, message_id("x", "k", 1, "i")}) == 5
