"""Definitions, pictures, and what versions of RabbitMQ refuse."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from mqkit import ConfigurationError, Queue
from mqkit.broker.delays import DELIVER, level_name
from mqkit.outcome import DELAY_LEVELS
from mqkit.provisioning.definitions import definitions
from mqkit.provisioning.ladder import (
    Ladder,
    LadderQueue,
    known_levels,
    ladder_of,
    levels_for,
    problems_of,
)
from mqkit.provisioning.picture import picture
from mqkit.provisioning.versions import refused_by, target_version
from mqkit.provisioning.wanted import wanted_by
from tests.unit.provisioning.support import of, service


def test_definitions_have_all_that_is_declared() -> None:
    """In the words of RabbitMQ's own export."""
    found = definitions(of(Queue("q")), "shop")
    assert {each["name"] for each in found["queues"]} == {"q", "q.dead"}
    assert found["bindings"] == [
        {
            "source": "payments",
            "vhost": "shop",
            "destination": "q",
            "destination_type": "queue",
            "routing_key": "order.#",
            "arguments": {},
        }
    ]
    assert {each["vhost"] for kind in ("queues", "exchanges") for each in found[kind]} == {"shop"}


def test_what_json_cannot_say_is_refused() -> None:
    """It names the queue."""
    queue = Queue("q", arguments={"x-when": datetime(2026, 1, 1, tzinfo=UTC)})
    with pytest.raises(ConfigurationError, match="queue q"):
        definitions(of(queue), "/")


async def test_the_ladder_is_that_of_the_code_which_declares_it() -> None:
    """Each level has a queue, an exchange and two bindings."""
    found = await ladder_of(2)
    assert {level_name(0), level_name(1), DELIVER} <= {each.name for each in found.exchanges}
    assert len(found.bindings) == 2 * 2 + 1
    whole = await ladder_of(DELAY_LEVELS, DELAY_LEVELS)
    assert len(whole.queues) == 2 * DELAY_LEVELS + 2


async def test_what_is_wrong_with_a_ladder_is_named() -> None:
    """What is missing, unbound, declared otherwise, and where messages are stuck."""
    whole = await ladder_of(3)
    assert list(problems_of(whole, whole, {})) == []
    queues = (LadderQueue(level_name(0), {"x-message-ttl": 1}), *whole.queues[3:])
    broken = Ladder(whole.exchanges[1:], queues, whole.bindings[1:])
    stuck = {"mqkit.delay.v1.undeliverable": 2, "mqkit.delay.v1.to.03.payments": 1}
    found = list(problems_of(whole, broken, stuck))
    for words in ("is not there", "arguments are not", "is not bound", "2 messages", "are due"):
        assert any(words in each for each in found), words


def test_levels_up_to_the_highest_that_is_there_must_be_there() -> None:
    """One that is missing below it is missed."""
    assert known_levels({level_name(4)}, level_name) == 5
    assert known_levels(set(), level_name) == 0


def test_a_service_that_never_tries_again_needs_no_level() -> None:
    """Nor does one that holds its retries in their order."""
    assert levels_for(of(Queue("q")).handlers) == 0


def test_a_picture_shows_the_way_of_a_message() -> None:
    """From the exchange to the handler, and to its dead letters."""
    made = service(Queue("q", partitions=4))
    nodes, edges = picture((made,), wanted_by([made]))
    assert {each.kind for each in nodes} == {"exchange", "queue", "handler", "dead letter"}
    assert ("exchange payments", "queue q", "order.#") in {
        (each.source, each.target, each.label) for each in edges
    }
    assert "4 partitions" in next(each.note for each in nodes if each.kind == "queue")


@pytest.mark.parametrize(
    ("queue", "target", "words"),
    [
        (Queue("q", type="classic", durable=False), "4.3", ["transient"]),
        (Queue("q", type="classic", durable=False), "4.2", []),
        (Queue("q", type="classic", arguments={"x-queue-mode": "lazy"}), "4.3.6", ["x-queue-mode"]),
        (Queue("q", type="classic", arguments={"x-queue-version": 2}), "4.3", []),
        (Queue("q", type="classic", arguments={"x-ha-policy": "all"}), "4.0", ["mirrored"]),
        (Queue("q", arguments={"x-queue-master-locator": "client-local"}), "4.3", ["locator"]),
        (Queue("q", arguments={"x-max-priority": 3}), "4.0", ["x-max-priority"]),
        (Queue("q"), "5.0", []),
    ],
)
def test_what_a_version_refuses_is_named(queue: Queue, target: str, words: list[str]) -> None:
    """From the version on that does."""
    found = [each for each in refused_by(target_version(target), of(queue)) if each.name == "q"]
    assert len(found) == len(words)
    assert all(word in each.detail for word, each in zip(words, found, strict=True))


def test_a_policy_that_mirrors_is_named() -> None:
    """It is ignored from 4.0 on."""
    policies: dict[str, Any] = {"ha": {"ha-mode": "all"}, "ttl": {"message-ttl": 5}}
    found = [each for each in refused_by((4, 0), of(Queue("q")), policies) if each.what == "policy"]
    assert [each.name for each in found] == ["ha"]


@pytest.mark.parametrize("text", ["", "4", "four", "4.3-rc1", "3.8", "4.3.6.1", "-4.3"])
def test_a_target_that_is_no_version_is_refused(text: str) -> None:
    """Before anything is asked of a broker."""
    with pytest.raises(ConfigurationError, match="--target"):
        target_version(text)
