"""Writes times as short as a picture has room for."""

from __future__ import annotations

from datetime import UTC, datetime


def moment(at: datetime) -> str:
    """Return a time in UTC: '2026-03-01 12:00:00Z'."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")
