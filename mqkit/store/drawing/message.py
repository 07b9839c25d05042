"""Draws a message's way: the outbox, its queues, and what each handler did with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mqkit.pictures.graph import Edge, Node, graph_svg
from mqkit.store.drawing.times import moment
from mqkit.store.states import State
from mqkit.store.status import MessageStatus
from mqkit.topology import DEAD_SUFFIX

_MESSAGE = "message"


def message_svg(message_id: str, found: Sequence[MessageStatus]) -> str:
    """Draw what `Store.status` says of a message as SVG.

    Of an error its type is shown. A message that the store does not know is drawn alone.
    """
    nodes = [Node(_MESSAGE, message_id, "message")]
    edges: list[Edge] = []
    for number, status in enumerate(found):
        for part in _way(number, status):
            (nodes if isinstance(part, Node) else edges).append(part)  # type: ignore[arg-type]
    return graph_svg(
        nodes,
        edges,
        title=f"Message {message_id}",
        description="The queues that the message came to, and what each handler did with it.",
    )


def _way(number: int, status: MessageStatus) -> Iterator[Node | Edge]:
    at = moment(status.updated_at)
    if status.handler is None:
        yield Node(f"outbox {number}", "outbox", "external", f"{status.state}, {at}")
        yield Edge(_MESSAGE, f"outbox {number}")
        return
    queue, handler = f"queue {status.queue}", f"handler {number}"
    yield Node(queue, status.queue or "", "queue")
    yield Node(handler, status.handler, "handler", _told(status, at))
    yield Edge(_MESSAGE, queue)
    yield Edge(queue, handler)
    if status.state is State.RETRYING:
        due = "" if status.retry_at is None else moment(status.retry_at)
        yield Node(f"delay {number}", "waits for its retry", "delay", due)
        yield Edge(handler, f"delay {number}", status.error_type or "", "delay")
        yield Edge(f"delay {number}", queue, "", "delay")
    elif status.state is State.DEAD:
        dead = f"{status.queue}{DEAD_SUFFIX}"
        yield Node(f"queue {dead}", dead, "dead letter")
        yield Edge(handler, f"queue {dead}", status.error_type or "", "dead letter")


def _told(status: MessageStatus, at: str) -> str:
    attempt = f", attempt {status.attempt}" if status.attempt else ""
    return f"{status.state}{attempt}, {at}"
