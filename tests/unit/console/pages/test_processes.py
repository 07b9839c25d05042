"""The page of processes."""

from __future__ import annotations

from tests.unit.console.samples import browser, process, service, shop


async def test_what_is_wrong_stands_first() -> None:
    """Silent processes, then those that are not ready, each with its problems."""
    bad = process("zebra", is_ready=False, problems=("no connection to the broker",))
    overview = shop(services=(*shop().services, service("zebra", processes=(bad,))))
    async with browser(overview) as one:
        page = (await one.get("/processes")).text.partition("<tbody>")[2]
    assert page.index("silent") < page.index("not ready") < page.index(">ready<")
    assert "no connection to the broker" in page


async def test_a_process_is_found_by_its_id() -> None:
    """As links from other pages name it."""
    async with browser() as one:
        page = (await one.get("/processes", q="billing-2")).text
    assert page.count('<th scope="row">') == 1
    assert "4002 on host-2" in page
