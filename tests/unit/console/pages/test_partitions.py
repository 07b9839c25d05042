"""The page of partitions."""

from __future__ import annotations

from mqkit.overview.values import Overview
from tests.unit.console.samples import NOW, browser


async def test_partitions_have_their_owners() -> None:
    """One that no process owns is marked, and so is an owner that is silent."""
    async with browser() as one:
        page = (await one.get("/partitions")).text
    assert "4 partitions, 2 known owners" in page
    assert "1 partition without an owner" in page
    assert page.count("4001 on host-1") == 2
    assert page.count("4002 on host-2") == 1
    assert '<span class="state bad">silent</span>' in page


async def test_handlers_without_partitions_are_left_out() -> None:
    """A filter that fits none, and a system that has none, say so."""
    async with browser() as one:
        assert (
            "No handler with partitions fits that" in (await one.get("/partitions", q="post")).text
        )
    async with browser(Overview(NOW, "", (), (), ())) as one:
        assert "No handler spreads its keys" in (await one.get("/partitions")).text
