"""The page of queues."""

from __future__ import annotations

from tests.unit.console.samples import browser, queue, shop


async def test_queues_have_their_figures_and_lead_to_their_handlers() -> None:
    """What is not known is a dash; a partition leads to its handler, too."""
    async with browser() as one:
        page = (await one.get("/queues")).text
    assert "4,210" in page
    assert "/handlers/handler?service=billing&amp;name=charge" in page
    assert "/dead-letters/queue?queue=ledger.post" in page
    assert "not mqkit&#39;s, classic" in page


async def test_queues_are_found_by_name_and_role() -> None:
    """By what stands in the address, so that the page can be handed on as it is."""
    async with browser() as one:
        found = (await one.get("/queues", q="LEDGER", role="work")).text
        none = (await one.get("/queues", q="nothing like it")).text
    assert "ledger.<wbr>post" in found
    assert "ledger.post.dead" not in found
    assert "billing" not in found.partition("<main")[2]
    assert "No queue fits that" in none


async def test_a_long_list_has_pages() -> None:
    """Of fifty rows; the filter stays where it leads on."""
    many = tuple(queue(f"q-{number:03}") for number in range(120))
    async with browser(shop(queues=many)) as one:
        page = (await one.get("/queues", q="q-", page="2")).text
    assert page.count('<th scope="row">') == 50
    assert "q-050" in page
    assert 'href="/queues?q=q-&amp;page=3"' in page
    assert "51 to 100 of 120" in page


async def test_a_handlers_queue_without_a_consumer_is_marked() -> None:
    """Its messages wait for nobody."""
    async with browser(shop(queues=(queue("ledger.post", consumers=0),))) as one:
        assert '<span class="state bad">none</span>' in (await one.get("/queues")).text
