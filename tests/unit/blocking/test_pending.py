"""The state of a publish that one thread waits for and another one writes."""

from __future__ import annotations

from mqkit.blocking.pending import PendingPublish
from mqkit.message import Message


def test_one_result_for_each_publish() -> None:
    """A publish that its caller gave up is not claimed; one with a result is not given up."""
    message = Message("", "q", b"")
    given_up, finished = PendingPublish(message), PendingPublish(message)
    assert given_up.abandon()
    assert not given_up.claim()
    assert not given_up.progress.written
    assert finished.claim()
    finished.finish(None)
    assert not finished.abandon()
