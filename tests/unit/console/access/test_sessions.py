"""Sessions of browsers."""

from __future__ import annotations

from mqkit.console.access.sessions import LIFETIME, MOST, Sessions


def test_a_session_is_found_by_its_cookie_until_it_ends() -> None:
    """After its lifetime, and after a logout, its cookie is worth nothing."""
    now = 0.0
    sessions = Sessions(lambda: now)
    first, second = sessions.begin(), sessions.begin()
    assert sessions.find(first.id) is first
    assert first.id != second.id
    assert first.csrf != second.csrf
    sessions.end(first)
    assert sessions.find(first.id) is None
    now = LIFETIME
    assert sessions.find(second.id) is None


def test_no_cookie_is_no_session() -> None:
    """Nor is an empty one."""
    sessions = Sessions()
    assert sessions.find(None) is None
    assert sessions.find("") is None


def test_sessions_are_bounded() -> None:
    """Whoever has the token fills no memory: the oldest session goes."""
    sessions = Sessions()
    first = sessions.begin()
    last = [sessions.begin() for _ in range(MOST)][-1]
    assert sessions.find(first.id) is None
    assert sessions.find(last.id) is last


def test_a_session_tells_its_secrets_to_no_log() -> None:
    """Its repr has neither the cookie nor what forms send."""
    session = Sessions().begin()
    assert session.id not in repr(session)
    assert session.csrf not in repr(session)


def test_notes_are_said_once() -> None:
    """The latest few, on the next page."""
    session = Sessions().begin()
    for number in range(9):
        session.note(f"{number}")
    assert session.take_notes() == ["4", "5", "6", "7", "8"]
    assert session.take_notes() == []
