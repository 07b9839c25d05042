"""A system as it runs, as nodes and edges."""

from __future__ import annotations

from mqkit.overview.picture import drawn
from mqkit.overview.values import Role
from mqkit.provisioning.routes import Route, Routes
from tests.unit.console.samples import handler, queue, service, shop

ROUTES = Routes(
    {"front": "fanout", "payments": "topic", "unused": "topic"},
    (
        Route("front", "payments", is_queue=False, routing_key=""),
        Route("payments", "ledger.post", is_queue=True, routing_key="a.#"),
        Route("payments", "billing.charge.p1", is_queue=True, routing_key="b"),
        Route("payments", "theirs", is_queue=True, routing_key="c"),
    ),
)


def test_a_message_goes_from_exchanges_to_dead_letters() -> None:
    """Through exchanges, partitions and handlers; what leads nowhere is left out"""
    overview = shop(queues=(*shop().queues, queue("theirs", Role.OTHER, kind="classic")))
    found = drawn(overview, ROUTES, most=40)
    ends = {(each.source, each.target) for each in found.edges}
    assert ("exchange front", "exchange payments") in ends
    assert ("exchange payments", "queue billing.charge") in ends
    assert ("exchange payments", "queue theirs") in ends
    assert ("queue ledger.post", "handler ledger post") in ends
    assert ("handler ledger post", "queue ledger.post.dead") in ends
    ids = [each.id for each in found.nodes]
    assert "exchange unused" not in ids
    assert "queue other.things" not in ids
    assert not [each for each in ids if "mqkit.delay" in each or ".p1" in each]
    assert ids.index("queue theirs") > ids.index("queue billing.refund")


def test_the_queues_with_the_largest_backlog_are_drawn_where_there_are_many() -> None:
    """And how many there would be is said"""
    found = drawn(shop(), None, services=["billing"], most=1)
    assert [each.label for each in found.nodes if each.kind == "queue"] == ["billing.refund"]
    assert (found.queues, found.shown) == (2, 1)


def test_dead_letters_of_a_queue_without_a_handler_hang_on_it() -> None:
    """Its service does not run now"""
    down = shop(services=(service("ledger", handler("ledger", "other")),))
    ends = {(each.source, each.target) for each in drawn(down, None, most=40).edges}
    assert ("queue ledger.post", "queue ledger.post.dead") in ends
