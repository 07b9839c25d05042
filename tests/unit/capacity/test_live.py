"""What a service tells Prometheus, as a load."""

from __future__ import annotations

import math
import random

import pytest

from mqkit.capacity.errors import CapacityError
from mqkit.capacity.live import measured

BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, math.inf)


def told(name: str, values: list[float], labels: str) -> str:
    """Write a histogram as a service does."""
    lines = [f"# HELP {name} of a test", f"# TYPE {name} histogram"]
    for bound in BOUNDS:
        count = sum(value <= bound for value in values)
        shown = "+Inf" if bound == math.inf else bound
        lines.append(f'{name}_bucket{{le="{shown}",{labels}}} {count}.0')
    lines += [f"{name}_count{{{labels}}} {len(values)}.0", f"{name}_sum{{{labels}}} {sum(values)}"]
    return "\n".join(lines) + "\n"


def test_two_readings_are_the_load_between_them() -> None:
    """Rate, mean and spread are of what was handled in between, over all labels of the queue."""
    drawn = random.Random(1)
    times = [drawn.gammavariate(4, 0.025) for _ in range(3_000)]
    labels = ('handler="a",queue="q"', 'handler="b",queue="q"', 'handler="a",queue="other"')
    name = "mqkit_handler_seconds"
    before = "".join(told(name, times[:500], each) for each in labels)
    after = "".join(told(name, times, each) for each in labels)
    after += told("mqkit_queue_seconds", [0.5] * 10, labels[0])
    found = measured(before, after, "q", 50.0)
    assert (found.runs, found.load.rate) == (5_000, 100)
    assert found.load.service_time == pytest.approx(0.1, rel=0.05)
    assert found.load.cv == pytest.approx(0.5, abs=0.1)
    assert found.wait == pytest.approx(0.5)


def test_a_service_that_began_anew_counts_from_its_start() -> None:
    """Counters that are lower than before are not a negative rate."""
    before = told("mqkit_handler_seconds", [0.1] * 100, 'queue="q"')
    after = told("mqkit_handler_seconds", [0.2] * 30, 'queue="q"')
    found = measured(before, after, "q", 10.0)
    assert (found.runs, found.load.rate) == (30, 3)
    assert found.load.service_time == pytest.approx(0.2)
    assert found.wait is None


def test_queues_with_any_name_are_found() -> None:
    """A label's value is unescaped: quotes, backslashes and line ends."""
    text = told("mqkit_handler_seconds", [0.1], 'queue="a\\"b\\\\c\\nd"')
    assert measured("", text, 'a"b\\c\nd', 1.0).runs == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "has it handled a message yet"),
        ("<html>not found</html>", "has it handled a message yet"),
        ("mqkit_handler_seconds_count{queue=} nonsense\nmqkit_handler_seconds{{{", "no mqkit_h"),
        (told("mqkit_handler_seconds", [0.1], 'queue="other"'), "it has '?other"),
        (told("mqkit_handler_seconds", [], 'queue="q"'), "was handled in 5 s"),
        ('mqkit_handler_seconds_count{queue="q"} NaN', "no mqkit_handler_seconds"),
        ('mqkit_handler_seconds_count{queue="q"} 3', "was handled in 5 s"),
    ],
)
def test_what_says_nothing_about_the_queue_is_an_error(text: str, words: str) -> None:
    """The error says what is missing, and which queues there are."""
    with pytest.raises(CapacityError, match=words):
        measured("", text, "q", 5.0)
