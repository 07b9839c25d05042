"""The pages of handlers."""

from __future__ import annotations

from dataclasses import replace

from mqkit.overview.values import Overview
from tests.unit.console.samples import NOW, browser, shop


async def test_handlers_are_listed_with_state_and_reason() -> None:
    """The paused one says why, and dead letters are counted by the queue that they came from."""
    async with browser() as one:
        page = (await one.get("/handlers")).text
    assert "paused (2)" in page
    assert "BankDownError at billing/bank.py:42 in send" in page
    assert '<a href="/dead-letters/queue?queue=ledger.post">31</a>' in page


async def test_handlers_are_found_by_service_and_pause() -> None:
    """Each choice leaves out the others."""
    async with browser() as one:
        of_ledger = (await one.get("/handlers", service="ledger")).text
        paused = (await one.get("/handlers", paused="yes")).text
        none = (await one.get("/handlers", service="ledger", paused="yes")).text
    assert ">post<" in of_ledger
    assert ">refund<" not in of_ledger
    assert ">refund<" in paused
    assert ">post<" not in paused
    assert "No handler fits that" in none


async def test_one_handler_has_all_that_is_known_of_it() -> None:
    """Its outcomes, its pause, and its partitions with their owners."""
    async with browser() as one:
        paused = (await one.get("/handlers/handler", service="billing", name="refund")).text
        charge = (await one.get("/handlers/handler", service="billing", name="charge")).text
    assert "It is paused" in paused
    assert "120,345" in paused
    assert "3 times" in paused
    assert "4001 on host-1" in charge
    assert "no owner" in charge


async def test_what_the_page_of_a_handler_lacks_is_said() -> None:
    """A rate that is a dash has its reason on the page."""
    lacks = "no management API: rates and unacked messages of queues are not known"
    async with browser(replace(shop(), problems=(lacks,))) as one:
        page = (await one.get("/handlers/handler", service="billing", name="refund")).text
    assert lacks in page


async def test_a_handler_that_is_not_there_is_said_to_be_none() -> None:
    """Its processes may have ended since the page was linked to."""
    async with browser() as one:
        answer = await one.get("/handlers/handler", service="ledger", name="charge")
    assert answer.status_code == 404
    assert "no such handler now" in answer.text


async def test_without_services_it_says_so() -> None:
    """And does not look as if a filter were to blame."""
    async with browser(Overview(NOW, "", (), (), ())) as one:
        assert "No handler is known yet" in (await one.get("/handlers")).text
