"""What is drawn fits the terminal, and says how much is not on it."""

from __future__ import annotations

import dataclasses
import io
import json

import pytest
from rich.console import Console

from mqkit.cli.top.json_form import as_json
from mqkit.cli.top.screen import Staleness, allot, screen
from mqkit.overview.joining import Known, services_of
from mqkit.overview.queues import Listed, views_of
from mqkit.overview.rates import counted
from mqkit.overview.values import Overview, QueueView, Role
from tests.simulated_states import BEGAN, queue_name, states


def overview(processes: int = 50, queues: int = 500) -> Overview:
    """A system of that size."""
    one, two = (
        states(up, processes=processes, queues=queues, now=lambda: BEGAN) for up in (100.0, 102.0)
    )
    services = services_of(
        Known(said[-1], [counted(each) for each in said], BEGAN, is_silent=number == 3)
        for number, said in enumerate(zip(one, two, strict=True))
    )
    listed = [Listed(queue_name(n), n, 1, "quorum", 1, 2.0, 3.0) for n in range(queues)]
    return Overview(BEGAN, "RabbitMQ 4.3.6", ("something is wrong",), services,
                    views_of(listed, services))  # fmt: skip


def drawn(of: Overview, width: int, height: int, stale: Staleness | None = None) -> list[str]:
    """The lines that a terminal of this size shows."""
    out = io.StringIO()
    console = Console(file=out, width=width, height=height, color_system=None)
    console.print(screen(of, width, height, stale))
    return out.getvalue().splitlines()


@pytest.mark.parametrize(("width", "height"), [(80, 24), (200, 50), (40, 10), (132, 30), (80, 5)])
def test_a_large_system_fits(width: int, height: int) -> None:
    """No line is wider than the terminal, and there are no more lines than it has."""
    lines = drawn(overview(), width, height)
    assert max(map(len, lines)) <= width
    assert len(lines) <= max(height, 6)


@pytest.mark.parametrize(("width", "height"), [(80, 24), (200, 50)])
def test_each_table_has_rows_and_says_how_many_are_not_shown(width: int, height: int) -> None:
    """Of 500 handlers and queues, 50 processes, 5 services: the ones that matter most."""
    text = "\n".join(drawn(overview(), width, height))
    for title, total in (("HANDLER", 500), ("QUEUE", 500), ("PROCESS", 50)):
        assert f"{title} (" in text
        assert f" of {total})" in text
    assert "silent for" in text  # of the process that says nothing
    assert "paused" in text
    assert queue_name(499) in text  # the one with the largest backlog
    assert "! something is wrong" in text


def test_a_terminal_is_used_to_the_last_line() -> None:
    """Where there is more to show."""
    for width, height in ((80, 24), (200, 50)):
        assert len(drawn(overview(), width, height)) == height


def test_a_small_system_is_shown_whole() -> None:
    """Without a word of what is not shown."""
    text = "\n".join(drawn(overview(5, 10), 200, 50))
    assert " of " not in text.replace("of 4", "")
    assert "HANDLER (10)" in text


def test_stale_figures_are_called_stale_in_words() -> None:
    """And how old they are."""
    lines = drawn(overview(), 80, 24, Staleness(65.0))
    assert "RECONNECTING: these figures are stale, from 1m05s ago" in lines[1]
    assert len(lines) == 24


def test_a_system_of_nothing_says_what_to_do() -> None:
    """Before a service has said anything."""
    text = "\n".join(drawn(Overview(BEGAN, "", (), (), ()), 80, 24))
    assert "no broker" in text
    assert "no service has said anything" in text


def test_names_with_brackets_are_no_markup() -> None:
    """A queue may be called as rich would colour it."""
    queue = QueueView("[red]x[/red]", Role.OTHER, "", 1, None, 0, None, None)
    lines = drawn(dataclasses.replace(overview(1, 1), queues=(queue,)), 80, 24)
    assert any("[red]x[/red]" in line for line in lines)


@pytest.mark.parametrize(
    ("needs", "lines", "given"),
    [
        ([5, 5, 5, 5], 6, [1, 2, 2, 1]),
        ([5, 5, 5, 5], 20, [5, 5, 5, 5]),
        ([5, 500, 500, 50], 17, [3, 6, 6, 2]),
        ([1, 0, 3, 1], 100, [1, 0, 3, 1]),
        ([5, 5, 5, 5], 0, [0, 0, 0, 0]),
        ([5, 5, 5, 5], -3, [0, 0, 0, 0]),
    ],
)
def test_lines_are_shared_in_turns(needs: list[int], lines: int, given: list[int]) -> None:
    """Handlers and queues get two for one of the others; what one does not need, others have."""
    assert allot(needs, (1, 2, 2, 1), lines) == given


def test_the_json_form_is_json() -> None:
    """With all services and queues, and sagas as objects."""
    told = json.loads(as_json(overview(10, 20)))
    assert len(told["services"]) == 5
    assert len(told["queues"]) == 20
    store = next(each["store"] for each in told["services"] if each["store"])
    assert store["sagas"] == [{"name": "Settlement", "status": "running", "count": 3}]
