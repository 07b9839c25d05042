"""The delay ladder's routing, walked as the broker would."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqkit.broker.delays import DELIVER, _bit_pattern, entry, level_name, queue_pattern, ticks
from mqkit.outcome import DELAY_LEVELS, DELAY_TICK, MAX_DELAY


def matches(pattern: str, key: str) -> bool:
    """Topic matching (AMQP 0-9-1, section 3.1.3.3): `*` is one word, `#` is any number."""
    words = [re.escape(w) if w not in "*#" else w for w in pattern.split(".")]
    expression = r"\.".join("[^.]*" if w == "*" else w for w in words)
    return bool(re.fullmatch(expression.replace(r"\.#", r"(\..*)?"), key))


def walk(exchange: str, key: str, queues: list[str]) -> tuple[int, list[str]]:
    """Follow a message through the ladder: the ticks that it waited, and where it came out."""
    waited = 0
    while exchange != DELIVER:
        level = int(exchange[-2:])
        if matches(_bit_pattern(level, "1"), key):
            waited += 2**level
        else:
            assert matches(_bit_pattern(level, "0"), key)
        exchange = level_name(level - 1) if level else DELIVER
    return waited, [queue for queue in queues if matches(queue_pattern(queue), key)]


names = st.from_regex(r"[a-z01]{1,3}(\.[a-z01]{1,3}){0,3}", fullmatch=True)


@given(count=st.integers(1, 2**DELAY_LEVELS - 1), queue=names, others=st.lists(names))
def test_any_delay_waits_exactly_and_reaches_one_queue(
    count: int, queue: str, others: list[str]
) -> None:
    """Whatever the delay and the names, it waits its ticks and comes to the queue that asked."""
    exchange, key = entry(count * DELAY_TICK, queue)
    bound = sorted({queue, *others, f"x.{queue}", f"{queue}.x", queue.rpartition(".")[2]})
    assert walk(exchange, key, bound) == (count, [queue])
    assert len(key.encode()) <= 255


@given(st.floats(0, 1e6))
def test_a_delay_is_never_early(delay: float) -> None:
    """Ticks are rounded up, by less than one."""
    assert -1e-6 <= ticks(delay) * DELAY_TICK - delay < DELAY_TICK + 1e-6


def test_no_delay_takes_the_last_exchange() -> None:
    """Zero seconds is a publish to the exchange that delivers, by which it is known as a copy."""
    exchange, key = entry(0, "a.b")
    assert exchange == DELIVER
    assert walk(exchange, key, ["a.b", "b", "x.a.b"]) == (0, ["a.b"])


@pytest.mark.parametrize("delay", [-0.1, MAX_DELAY + 1, float("nan")])
def test_what_the_ladder_cannot_hold_is_refused(delay: float) -> None:
    """A negative or a longer delay is a ValueError."""
    with pytest.raises(ValueError, match="a delay is"):
        ticks(delay)
