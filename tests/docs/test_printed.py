"""What a command printed, beside what a page shows of it."""

from __future__ import annotations

import pytest

from tests.docs.printed import end_of, is_shown


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("one\ntwo", "one  \n\x1b[31mtwo\x1b[0m\n"),
        ("one\n...\nfour", "one\ntwo\nthree\nfour\n"),
        ("one\n...", "one\n"),
        ("a ... c", "a b c\n"),
        ("2026-01-02 03:04:05,678 in 0.48 s", "1999-12-31 23:59:59,001 in 12.0 s\n"),
        ("at 2026-01-02T03:04:05+00:00", "at 1999-12-31T23:59:59+00:00\n"),
        ("mqkit 0.1.0 on 127.0.0.1", "mqkit 1.12.3 on 127.0.0.1\n"),
        (
            "id 0b6ab0e2-9a1c-4d2e-8b77-1f2d3c4b5a69",
            "id ffffffff-9a1c-4d2e-8b77-1f2d3c4b5a69\n",
        ),
    ],
)
def test_what_may_differ_does(shown: str, printed: str) -> None:
    """Colours, dots, times, seconds, versions and ids are let pass"""
    assert is_shown(shown.split("\n"), printed)


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("one", "one\ntwo\n"),
        ("one\ntwo", "one\n"),
        ("one\n...\nfour", "one\nfour\nfive\n"),
        ("5 messages", "6 messages\n"),
        ("a.c", "abc\n"),
        ("on 127.0.0.1", "on 127.0.0.2\n"),
    ],
)
def test_what_must_not_differ_is_seen(shown: str, printed: str) -> None:
    """A line too much, a line too few and another word are differences"""
    assert not is_shown(shown.split("\n"), printed)


def test_what_is_shown_of_a_terminal_may_go_on() -> None:
    """Of a terminal that goes on, what is shown ends where the next block's begins"""
    printed = "started\nhandled 1\nhandled 2\n"
    end = end_of(["handled 1"], printed)
    assert end is not None
    assert printed[end:] == "handled 2\n"
    assert end_of(["handled 3"], printed) is None
    assert end_of(["started", "handled 2"], printed) is None
