"""The overview."""

from __future__ import annotations

from mqkit.console.pages.home import MOST, figures, matters
from mqkit.overview.values import Overview, StoreView
from tests.unit.console.samples import NOW, browser, handler, process, service, shop


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
        "Not ready: process 4001 on host-1 of a: no connection",
        "b: 25% of its runs failed in the last minute",
        "The store of a is down",
    ]


async def test_of_many_things_some_are_listed_and_the_rest_counted() -> None:
    """The worst first: what is not heard of before what is paused."""
    many = tuple(process("a", number, is_silent=True) for number in range(MOST + 5))
    overview = shop(services=(service("a", processes=many),))
    async with browser(overview) as one:
        page = (await one.get("/")).text
    assert page.count("Nothing is heard of") == MOST
    assert "and 6 more" in page


def test_figures_are_sums_over_the_system() -> None:
    """Backlog is of work, and not of dead letters, archives or delays."""
    found = figures(shop())
    assert found["backlog"] == 4210 + 12 + 4 * 7
    assert found["dead"] == 31
    assert found["paused"] == 1
    assert found["processes"] == 4
