"""What each queue of a broker is for."""

from __future__ import annotations

from typing import Any, cast

import pytest

from mqkit.errors import ManagementError
from mqkit.management.api import ManagementApi
from mqkit.observability.states.state import HandlerState
from mqkit.overview.joining import services_of
from mqkit.overview.queues import Listed, listed_by_management, names_of, views_of
from mqkit.overview.values import Role
from tests.unit.overview.test_joining import known, state

SERVICES = services_of(
    [
        known(
            state(
                1,
                9.0,
                HandlerState("post", "ledger"),
                HandlerState("keep", "parts", partitions=2),
                HandlerState("bury", "ledger.dead"),
            )
        )
    ]
)


def roles(*names: str, services: Any = SERVICES) -> dict[str, tuple[Role, str]]:
    """What the queues are for, and whose they are."""
    views = views_of([Listed(name, 0, 0) for name in names], services)
    return {each.name: (each.role, each.of) for each in views}


def test_queues_of_handlers_are_known_by_what_their_processes_say() -> None:
    """Also one that takes dead letters: they are dead letters all the same."""
    assert roles(
        "ledger", "ledger.dead", "ledger.dead.archive", "ledger.dead.audit", "parts", "parts.0"
    ) == {
        "ledger": (Role.WORK, ""),
        "ledger.dead": (Role.DEAD, "ledger"),
        "ledger.dead.archive": (Role.ARCHIVE, "ledger"),
        "ledger.dead.audit": (Role.OTHER, "ledger"),
        "parts": (Role.WORK, ""),
        "parts.0": (Role.PARTITION, "parts"),
    }


def test_queues_of_services_that_do_not_run_are_known_by_their_neighbours() -> None:
    """A queue with dead letters is a handler's, and one with a number behind it a partition."""
    assert roles("a", "a.dead", "a.0", "b", "b.0", "c.dead", "a.dead.archive", services=()) == {
        "a": (Role.WORK, ""),
        "a.dead": (Role.DEAD, "a"),
        "a.0": (Role.PARTITION, "a"),
        "a.dead.archive": (Role.ARCHIVE, "a"),
        "b": (Role.OTHER, ""),
        "b.0": (Role.OTHER, ""),
        "c.dead": (Role.OTHER, ""),
    }


@pytest.mark.parametrize("name", ["mqkit.delay.v1.03", "mqkit.delay.v1.to.00.x"])
def test_the_ladder_is_known_by_its_name(name: str) -> None:
    """All below it: levels, landing queues, what is moved."""
    assert roles(name) == {name: (Role.DELAY, "")}


def test_queues_of_those_that_watch_are_left_out() -> None:
    """This view's own, and that of another one beside it."""
    assert roles("mqkit.states.v1.reader.0123") == {}


def test_names_that_no_queue_of_mqkit_has_are_others() -> None:
    """Whatever characters they have, and however long they are."""
    names = ("", "*", ".dead", "x" * 255, "a\nb", "\udc80", ".dead.archive", ".7")
    assert {role for role, _ in roles(*names).values()} == {Role.OTHER}


def test_the_largest_backlog_comes_first() -> None:
    """Then what is unacked, then what gets most, then the name."""
    listed = [
        Listed("a", 0, 1),
        Listed("b", 5, 1),
        Listed("c", 0, 1, unacked=3),
        Listed("d", 0, 1, rate_in=2.0),
    ]
    assert [each.name for each in views_of(listed, ())] == ["b", "c", "d", "a"]


def test_who_cannot_list_asks_for_the_queues_of_services() -> None:
    """With their partitions and dead letters, each once; those are there where a service runs."""
    names = names_of(SERVICES)
    assert len(names) == len(set(names))
    assert {name for name in names if not name.startswith("ledger.dead.dead")} == {
        "ledger",
        "ledger.dead",
        "parts",
        "parts.0",
        "parts.1",
        "parts.dead",
    }


class Api:
    """Answers as a test says."""

    name = "http://broker:15672"

    def __init__(self, answer: object) -> None:
        self._answer = answer
        self.asked: list[str] = []

    async def ask(self, kind: str, *_: str, query: str = "") -> Any:
        """Answer."""
        self.asked.append(kind + query)
        return self._answer


async def test_one_request_lists_all_queues() -> None:
    """Of each what there is; a queue without statistics yet has rates of 0."""
    answer = [
        {
            "name": "a",
            "type": "quorum",
            "messages_ready": 5,
            "messages_unacknowledged": 2,
            "consumers": 1,
            "message_stats": {"publish_details": {"rate": 1.5}, "ack_details": {"rate": 2}},
        },
        {"name": "b", "type": "classic", "messages_ready": 0, "consumers": 0},
        {"name": "c"},
        "nonsense",
        {"name": "d", "message_stats": [], "messages_ready": "many", "consumers": None},
    ]
    api = Api(answer)
    found = await listed_by_management(cast(ManagementApi, api))
    assert found[:3] == [
        Listed("a", 5, 1, "quorum", 2, 1.5, 2.0),
        Listed("b", 0, 0, "classic", None, 0.0, 0.0),
        Listed("c", 0, 0, "", None, 0.0, 0.0),
    ]
    assert found[3] == Listed("d", 0, 0, "", None, 0.0, 0.0)
    (asked,) = api.asked
    assert asked.startswith("queues?columns=name,")


async def test_a_virtual_host_that_is_not_there_is_said() -> None:
    """The API answers 404, which is None."""
    with pytest.raises(ManagementError, match="no such virtual host"):
        await listed_by_management(cast(ManagementApi, Api(None)))
