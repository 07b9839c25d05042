"""The console's application as a whole: its pages, and what becomes of errors."""

from __future__ import annotations

from tests.unit.console.samples import browser


async def test_the_overview_names_what_is_wrong() -> None:
    """A silent process, a paused handler, dead letters and a stuck outbox are on the first page."""
    async with browser() as one:
        page = (await one.get("/")).text
    assert "Nothing is heard of process 4002 on host-2 of billing" in page
    assert "refund is paused: BankDownError at billing/bank.py:42" in page
    assert "31 dead letters of ledger.post" in page
    assert "1 message in the outbox of ledger can never be published" in page


async def test_what_is_no_page_is_said_to_be_none() -> None:
    """An address that leads nowhere is answered with a page that says so, and 404."""
    async with browser() as one:
        answer = await one.get("/nowhere")
    assert answer.status_code == 404
    assert "There is no such page" in answer.text
