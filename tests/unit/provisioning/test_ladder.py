"""What the delay ladder has on a broker, and what is wrong with one."""

from __future__ import annotations

from mqkit import Queue
from mqkit.broker.delays import DELIVER, level_name
from mqkit.outcome import DELAY_LEVELS
from mqkit.provisioning.ladder import (
    Ladder,
    LadderQueue,
    known_levels,
    ladder_of,
    levels_for,
    problems_of,
)
from tests.unit.provisioning.support import of


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
