"""A message's way, found by its id in all stores."""

from __future__ import annotations

import html
from pathlib import Path

import pytest
from pydantic import SecretStr

from tests.unit.console.samples import browser
from tests.unit.console.stores import MARKUP, SECRET, fill, url_of


@pytest.fixture
async def store(tmp_path: Path) -> SecretStr:
    """The URL of a store with something in it."""
    url = url_of(tmp_path)
    await fill(url)
    return url


async def test_a_message_is_told_by_each_store_that_knows_it(
    store: SecretStr, tmp_path: Path
) -> None:
    """With its state, its error, what is next, and its picture as text in the page"""
    other = url_of(tmp_path, "other")
    await fill(other)
    async with browser(stores=(store, other)) as one:
        page = (await one.get("/message", id="m-retrying")).text
        dead = (await one.get("/message", id="m-dead")).text
    assert page.count("ValueError: &lt;script&gt;") == 2
    assert page.count("Next attempt in 60 min") == 2
    assert '<svg xmlns="http://www.w3.org/2000/svg" class="mq-picture"' in page
    assert ">waits for its retry</text>" in page
    assert "Among the dead letters" in dead
    assert "cannot be read now" in dead or "are being read" in dead
    for each in (page, dead):
        assert SECRET not in each
        assert MARKUP not in each


async def test_the_saga_of_an_order_is_led_to_from_its_id(store: SecretStr) -> None:
    """Who has an order's id finds its message, and the saga that is called by it"""
    async with browser(stores=(store,)) as one:
        page = (await one.get("/message", id=" o-1 ")).text
    assert (
        '<a href="/sagas/saga?name=payment&amp;id=o-1">Saga payment o-1</a>: compensating' in page
    )
    assert "succeeded" in page
    assert SECRET not in page
    assert html.escape(MARKUP).replace("&#x27;", "'") in page.replace("&#34;", '"')


async def test_the_picture_is_allowed_by_its_hash_alone(store: SecretStr) -> None:
    """No other style may stand in a page, and on pages without a picture none at all"""
    async with browser(stores=(store,)) as one:
        with_picture = await one.get("/message", id="o-1")
        without = await one.get("/message", id="unknown")
    policy = with_picture.headers["content-security-policy"]
    assert "style-src 'self' 'sha256-" in policy
    assert "unsafe" not in policy
    assert "sha256" not in without.headers["content-security-policy"]
    assert "No store knows a message of this id" in without.text


async def test_without_an_id_those_that_failed_are_listed(store: SecretStr) -> None:
    """The ones that were noted last first, by state if one asks for it"""
    async with browser(stores=(store,)) as one:
        page = (await one.get("/message")).text
        dead = (await one.get("/message", state="dead")).text
        none = (await one.get("/message", state="received")).text
    assert '<a href="/message?id=m-retrying">m-retrying</a>' in page
    assert '<a href="/message?id=m-dead">m-dead</a>' in page
    assert "m-retrying" not in dead
    assert "There are none." in none
    assert SECRET not in page + dead
    assert MARKUP not in page + dead


async def test_a_store_that_is_away_hides_no_other(store: SecretStr, tmp_path: Path) -> None:
    """The page says which one was not asked, and why"""
    away = SecretStr(f"sqlite:///{tmp_path / 'missing' / 'away.sqlite'}")
    async with browser(stores=(away, store)) as one:
        page = (await one.get("/message", id="o-1")).text
        listed = (await one.get("/message")).text
    for each in (page, listed):
        assert "Not asked" in each
        assert "away.sqlite" in each
    assert "succeeded" in page
    assert "m-dead" in listed


async def test_without_a_store_the_page_says_what_is_missing() -> None:
    """In the place of 'unknown', which would be a lie"""
    async with browser() as one:
        for path in ("/message?id=o-1", "/message", "/sagas", "/outbox"):
            assert "was started without a store" in (await one.get(path)).text
