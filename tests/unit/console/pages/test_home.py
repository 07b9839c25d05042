"""The overview."""

from __future__ import annotations

import re

from mqkit.console.pages.home import FEW, figures, matters
from mqkit.overview.values import Overview, Role, StoreView
from mqkit.pause import Status
from tests.unit.console.samples import NOW, browser, handler, process, queue, service, shop


async def test_the_overview_names_what_is_wrong() -> None:
    """A silent process, a paused handler, dead letters and a stuck outbox are on the first page."""
    async with browser() as one:
        page = (await one.get("/")).text
    assert "Nothing is heard of process 4002 on host-2 of billing" in page
    assert "refund is paused: BankDownError at billing/bank.py:42" in page
    assert "31 dead letters of ledger.post" in page
    assert "1 message in the outbox of ledger can never be published" in page


def test_each_thing_to_look_at_leads_to_its_page() -> None:
    """By its name, in the address's query."""
    found = {each.address for each in matters(shop())}
    assert found == {
        "/processes?q=billing-2",
        "/handlers/handler?service=billing&amp;name=refund",
        "/outbox",
        "/dead-letters/queue?queue=ledger.post",
    }


async def test_a_system_that_is_well_is_said_to_be() -> None:
    """Where nothing is wrong, and something is there."""
    well = Overview(NOW, "", (), (service("a", handler("a", "b")),), ())
    async with browser(well) as one:
        assert "all is well" in (await one.get("/")).text
    async with browser(Overview(NOW, "", (), (), ())) as one:
        page = (await one.get("/")).text
    assert "all is well" not in page
    assert "No service has said anything yet" in page


def test_a_process_that_is_not_ready_says_why() -> None:
    """And a handler whose runs fail, and a store that is down, are to be looked at too."""
    one = service(
        "a",
        handler("a", "b", failing=0.25),
        processes=(process("a", is_ready=False, problems=("no connection",)),),
        store=StoreView("a", False, 0, 0, 0.0),
    )
    told = [each.text for each in matters(Overview(NOW, "", (), (one,), ()))]
    assert told == [
        "1 process of a not ready: no connection",
        "The store of a is down",
        "b: 25 % of its runs failed in the last minute",
    ]


def test_of_many_things_of_a_kind_some_are_listed_and_the_rest_counted() -> None:
    """So that no kind crowds out another; what many processes say alike is one thing."""
    processes = tuple(
        process("a", n, is_ready=n > 9, is_silent=n > 17, problems=("down",)) for n in range(20)
    )
    handlers = [
        handler("a", f"h{n}", consumers={Status.PAUSED: n % 2}, failing=n / 100) for n in range(40)
    ]
    queues = tuple(queue(f"q{n}.dead", Role.DEAD, of=f"q{n}", ready=1) for n in range(FEW + 1))
    one = service("a", *handlers, processes=processes)
    told = [each.text for each in matters(Overview(NOW, "", (), (one,), queues))]
    assert told[:2] == ["Nothing is heard of 2 processes of a", "10 processes of a not ready: down"]
    assert sum("is paused" in each for each in told) == FEW
    assert "15 more paused handlers" in told
    assert sum("1 dead letter of q" in each for each in told) == FEW + 1
    assert "h38: 38 % of its runs failed in the last minute" in told
    assert told[-1] == "10 more handlers whose runs fail"


def test_a_paused_handler_is_said_once_for_all_of_its_processes() -> None:
    """That they are not ready for its sake is no news; another reason is"""
    because = "queue a.h: paused: the bank is down"
    paused = handler("a", "h", queue="a.h", consumers={Status.PAUSED: 2})
    processes = (
        process("a", 1, is_ready=False, problems=(because,)),
        process("a", 2, is_ready=False, problems=(because, "no store")),
    )
    one = service("a", paused, processes=processes)
    told = [each.text for each in matters(Overview(NOW, "", (), (one,), ()))]
    assert told == ["1 process of a not ready: no store", "h is paused: a dependency is down"]


def test_figures_are_sums_over_the_system() -> None:
    """Backlog is of work, and not of dead letters, archives or delays."""
    found = figures(shop())
    assert found["backlog"] == 4210 + 12 + 4 * 7
    assert found["dead"] == 31
    assert found["paused"] == 1
    assert found["processes"] == 4
    assert found["silent"] == 1


async def test_processes_that_are_silent_are_not_counted_as_heard() -> None:
    """One that was killed is still listed, and is no longer one of those that run."""
    async with browser() as one:
        page = (await one.get("/")).text
    assert re.search(r"3 of 4</span> <a[^>]*>processes</a> heard", page)
