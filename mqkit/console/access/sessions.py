"""Keeps the sessions of browsers that have shown the token, in this process alone."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

from mqkit.clock import monotonic

LIFETIME = 12 * 3600.0
"""Seconds after which the token is asked for again."""

MOST = 100
"""Sessions at a time; the oldest goes for a new one."""

MOST_NOTES = 5


@dataclass(slots=True)
class Session:
    """One browser that has shown the token."""

    id: str = field(repr=False)
    """What its cookie has."""
    csrf: str = field(repr=False)
    """What its forms send along, which no other site can know."""
    ends_at: float
    notes: list[str] = field(default_factory=list)
    """What is said on the next page, once."""

    def note(self, text: str) -> None:
        """Say something on the next page."""
        self.notes = [*self.notes, text][-MOST_NOTES:]

    def take_notes(self) -> list[str]:
        """Return what is to be said, and forget it."""
        notes, self.notes = self.notes, []
        return notes


class Sessions:
    """The sessions that have begun and not ended."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._sessions: dict[str, Session] = {}

    def begin(self) -> Session:
        """Begin a session."""
        now = self._clock()
        self._sessions = {name: one for name, one in self._sessions.items() if one.ends_at > now}
        while len(self._sessions) >= MOST:
            del self._sessions[next(iter(self._sessions))]
        session = Session(secrets.token_urlsafe(32), secrets.token_urlsafe(32), now + LIFETIME)
        self._sessions[session.id] = session
        return session

    def find(self, cookie: str | None) -> Session | None:
        """Return the session of a cookie; None where it is none, or has ended."""
        session = self._sessions.get(cookie or "")
        return session if session is not None and session.ends_at > self._clock() else None

    def end(self, session: Session) -> None:
        """End a session: its cookie is worth nothing from now on."""
        self._sessions.pop(session.id, None)
