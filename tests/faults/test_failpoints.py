"""Fail points: who reaches one with a ticket dies there, once a ticket."""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mqkit import Delivery
from mqkit.consuming.settler import Settler
from mqkit.message import Properties
from mqkit.store import Store, Transaction
from tests.faults import failpoints
from tests.support import ROOT

CLAIMER = """
import sys
from pathlib import Path
from tests.faults.failpoints import claim
count = 0
sys.stdin.readline()
while claim(Path(sys.argv[1])):
    count += 1
print(count)
"""


class DiedError(Exception):
    """Raised in the place of SIGKILL."""


@pytest.fixture
def tickets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory of them; this process outlives its points."""

    def die(pid: int, number: int) -> None:
        assert (pid, number) == (os.getpid(), signal.SIGKILL)
        raise DiedError

    monkeypatch.setattr(os, "kill", die)
    failpoints.issue(tmp_path / "tickets", 0)
    return tmp_path / "tickets"


def example(monkeypatch: pytest.MonkeyPatch, function: Any) -> Callable[[], Any]:
    """Put a function where a point can reach it; returns how to call it there."""
    monkeypatch.setattr(Settler, "example", function, raising=False)
    return lambda: Settler.__new__(Settler).example()  # type: ignore[attr-defined]


PATH = "mqkit.consuming.settler.Settler.example"


@pytest.mark.parametrize(("when", "ran"), [("before", []), ("after", ["ran"])])
def test_a_ticket_is_death_before_or_after_a_method(
    tickets: Path, monkeypatch: pytest.MonkeyPatch, when: str, ran: list[str]
) -> None:
    """Before: nothing of the method ran; after: all of it. Without a ticket, it just runs."""
    seen: list[str] = []

    def method(_: Settler) -> int:
        seen.append("ran")
        return 7

    call = example(monkeypatch, method)
    failpoints.arm(f"{when}:{PATH}", tickets)
    assert call() == 7
    seen.clear()
    failpoints.issue(tickets, 1)
    with pytest.raises(DiedError):
        call()
    assert seen == ran
    assert call() == 7
    assert failpoints.used_by(tickets) == [os.getpid()]


async def test_a_coroutine_is_killed_once_it_returned(
    tickets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a coroutine function is when it was awaited, not when it was called."""
    seen: list[str] = []

    async def method(_: Settler) -> None:
        seen.append("ran")

    call = example(monkeypatch, method)
    failpoints.arm(f"after:{PATH}", tickets)
    failpoints.issue(tickets, 1)
    coroutine = call()
    assert failpoints.left(tickets) == 1
    with pytest.raises(DiedError):
        await coroutine
    assert seen == ["ran"]


def test_what_raises_has_not_been_passed(tickets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A method that raises uses no ticket of the point after it, and raises what it raised."""

    def method() -> None:
        raise KeyError("its own")

    call = example(monkeypatch, staticmethod(method))
    failpoints.arm(f"after:{PATH}", tickets)
    failpoints.issue(tickets, 1)
    with pytest.raises(KeyError, match="its own"):
        call()
    assert failpoints.left(tickets) == 1


def test_a_point_that_is_none_is_refused(tickets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong name, a method that mqkit does not have and one that could not work are errors."""
    with pytest.raises(LookupError, match=r"no fail point 'retry-confirmd': one of retry-conf"):
        failpoints.arm("retry-confirmd", tickets)
    with pytest.raises(AttributeError):
        failpoints.arm("after:mqkit.consuming.settler.Settler.no_such", tickets)

    def method(_: Settler) -> Any:
        yield 1

    example(monkeypatch, method)
    with pytest.raises(TypeError, match="is a generator"):
        failpoints.arm(f"after:{PATH}", tickets)


@pytest.mark.parametrize("name", failpoints.POINTS)
def test_every_named_point_is_there(
    name: str, tickets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the table of points names is in mqkit, and can be wrapped."""
    owner, attribute = failpoints.place_of(failpoints.POINTS[name])
    # Which puts it back after the test.
    monkeypatch.setattr(owner, attribute, inspect.getattr_static(owner, attribute))
    failpoints.arm(name, tickets)


async def test_a_place_of_a_group_is_come_to_by_two_and_more(
    tickets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a point counts messages, a call with one passes, and who dies with three says so."""

    async def method(_: Settler, members: list[str], *, more: bool = True) -> bool:
        return more

    monkeypatch.setattr(Settler, "example", method, raising=False)
    monkeypatch.setitem(
        failpoints.POINTS,
        "several",
        failpoints.Point(PATH, "after", lambda arguments: len(arguments["members"])),
    )
    failpoints.arm("several", tickets)
    failpoints.issue(tickets, 1)
    call = Settler.__new__(Settler).example  # type: ignore[attr-defined]
    assert await call(["one"])
    assert failpoints.left(tickets) == 1
    with pytest.raises(DiedError):
        await call(members=["one", "two", "three"], more=False)
    assert failpoints.lost_by(tickets) == [3]


async def test_what_was_returned_tells_how_many_messages_died(
    tickets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a batch, those of its messages are counted that have a result, and no error."""

    async def run_batch_once(_: Store, results: list[object]) -> list[object]:
        return results

    monkeypatch.setattr(Store, "run_batch_once", run_batch_once)
    failpoints.arm("batch-committed", tickets)
    failpoints.issue(tickets, 1)
    store: Any = Store.__new__(Store)
    await store.run_batch_once([None, OSError(), OSError()])
    assert failpoints.left(tickets) == 1
    with pytest.raises(DiedError):
        await store.run_batch_once([None, OSError(), None])
    assert failpoints.lost_by(tickets) == [2]


DEATHS_OF_GROUPS = {
    "group-in-turn": [2],
    "shared-handled": [3],
    "shared-written": [3],
    "group-committed": [3],
}


@pytest.mark.parametrize(("name", "lost"), DEATHS_OF_GROUPS.items())
async def test_the_points_of_groups_are_passed_by_messages_alone(
    name: str, lost: list[int], tickets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message with a transaction of its own comes to none of them; three that share one do."""
    owner, attribute = failpoints.place_of(failpoints.POINTS[name])
    monkeypatch.setattr(owner, attribute, inspect.getattr_static(owner, attribute))
    monkeypatch.setattr(failpoints, "IN_TURN", 1.0)
    failpoints.arm(name, tickets)
    failpoints.issue(tickets, 1)

    async def run(transaction: Transaction) -> None:
        await transaction.publish("", "there", {})

    async with Store(f"sqlite:///{tmp_path / 'store'}", relay=False) as store:

        async def handle(name: str) -> None:
            delivery = Delivery(properties=Properties(message_id=name), queue="orders")
            await store.run_once("ledger", delivery, run, at_once=1)

        await handle("alone")
        assert failpoints.left(tickets) == 1
        await asyncio.gather(*map(handle, ["a", "b", "c"]), return_exceptions=True)
    assert failpoints.lost_by(tickets) == lost


def test_processes_get_a_ticket_each(tmp_path: Path) -> None:
    """Of 400 tickets that four processes take at once, each is used once, and none is left."""
    tickets = tmp_path / "tickets"
    failpoints.issue(tickets, 150)
    failpoints.issue(tickets, 250)
    claimers = [
        subprocess.Popen(
            [sys.executable, "-c", CLAIMER, str(tickets)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for claimer in claimers:
        assert claimer.stdin is not None
        claimer.stdin.write("go\n")
        claimer.stdin.flush()
    counts = {claimer.pid: int(claimer.communicate(timeout=30)[0]) for claimer in claimers}
    assert sum(counts.values()) == 400
    assert failpoints.left(tickets) == 0
    used = failpoints.used_by(tickets)
    assert {pid: used.count(pid) for pid in counts} == counts


def test_a_point_after_a_method_that_returns_an_awaitable_is_refused(
    tickets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of what is awaited has run when the method returns: the point would lie."""

    async def later() -> None:
        """Do nothing."""

    waiting = later()
    call = example(monkeypatch, lambda _: waiting)
    failpoints.arm(f"after:{PATH}", tickets)
    with pytest.raises(TypeError, match="no coroutine function"):
        call()
    waiting.close()
