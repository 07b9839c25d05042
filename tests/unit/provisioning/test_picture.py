"""What a picture of a topology shows."""

from __future__ import annotations

from mqkit import Queue
from mqkit.provisioning.picture import picture
from mqkit.provisioning.wanted import wanted_by
from tests.unit.provisioning.support import service


def test_a_picture_shows_the_way_of_a_message() -> None:
    """From the exchange to the handler, and to its dead letters."""
    made = service(Queue("q", partitions=4))
    nodes, edges = picture((made,), wanted_by([made]))
    assert {each.kind for each in nodes} == {"exchange", "queue", "handler", "dead letter"}
    assert ("exchange payments", "queue q", "order.#") in {
        (each.source, each.target, each.label) for each in edges
    }
    assert "4 partitions" in next(each.note for each in nodes if each.kind == "queue")
