"""The outboxes of all stores, and what each of them has not published."""

from __future__ import annotations

import re
from pathlib import Path

from tests.unit.console.samples import browser
from tests.unit.console.stores import MARKUP, SECRET, fill, url_of


async def test_each_store_is_counted_and_its_messages_are_listed(tmp_path: Path) -> None:
    """What waits and what never can be published, a page at a time, without secrets"""
    url = url_of(tmp_path)
    await fill(url)
    async with browser(stores=(url,)) as one:
        page = (await one.get("/outbox")).text
        waiting, dead = re.findall(r'href="(/outbox/store[^"]*)"', page)
        first = (await one.get(waiting.replace("&amp;", "&"))).text
        second = (await one.get(waiting.replace("&amp;", "&") + "&page=2")).text
        never = (await one.get(dead.replace("&amp;", "&"))).text
    assert f'href="{waiting}">60</a>' in page
    assert f'href="{dead}">2</a>' in page
    assert "As the services have" not in page
    assert ">waits-049</a>" in first
    assert ">waits-050</a>" not in first
    assert "51 to 60" in second
    assert "Previous" in second
    assert "Next" not in second
    assert ">never-2</a>" in never
    assert "&lt;script&gt;" in never
    assert "3 times" in never
    for each in (page, first, never):
        assert SECRET not in each
        assert MARKUP not in each


async def test_without_stores_it_is_as_the_services_say() -> None:
    """Of each service that has one"""
    async with browser() as one:
        page = (await one.get("/outbox")).text
    assert "Outboxes as the services have last said" in page
    assert re.search(r'<th scope="row">ledger</th>.*?>14<.*?>1<', page, re.DOTALL)


async def test_a_store_that_was_not_given_is_404() -> None:
    """Nobody reads other databases through the console"""
    async with browser() as one:
        answer = await one.get("/outbox/store", store="sqlite: /etc/passwd")
    assert answer.status_code == 404
