"""Sagas: listed, and each with its state, history and diagrams."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import update

from handlers.orders import service as orders
from mqkit.store import Store
from mqkit.store.schema import sagas
from tests.unit.console.samples import browser
from tests.unit.console.stores import MARKUP, SECRET, fill, url_of


@pytest.fixture
async def store(tmp_path: Path) -> SecretStr:
    """The URL of a store with something in it."""
    url = url_of(tmp_path)
    await fill(url)
    return url


async def test_sagas_are_listed_by_name_and_status(store: SecretStr) -> None:
    """With how many go on; one is found by its id"""
    async with browser(stores=(store,)) as one:
        page = (await one.get("/sagas")).text
        running = (await one.get("/sagas", name="payment", status="running")).text
        none = (await one.get("/sagas", name="other")).text
        to_one = await one.get("/sagas", id="o-1", name="payment")
    assert '<a href="/sagas?name=payment&amp;status=compensating">payment, compensating</a>' in page
    assert ">payment o-1</a>" in page
    assert ">payment o-2</a>" in page
    assert ">payment o-1</a>" not in running
    assert "There are none like that." in none
    assert to_one.headers["location"] == "/sagas/saga?id=o-1"


async def test_a_status_that_is_none_is_asked_of_no_store(store: SecretStr) -> None:
    """PostgreSQL takes no NUL in a text: such an address shows what one without a status does"""
    async with browser(stores=(store,)) as one:
        whole = (await one.get("/sagas")).text
        for status in ("a\0b", "no such status"):
            answer = await one.get("/sagas", status=status)
            assert answer.status_code == 200
            assert answer.text.count("/sagas/saga?") == whole.count("/sagas/saga?") > 0


async def test_a_saga_is_shown_without_secrets(store: SecretStr) -> None:
    """State, history, what it published and both of its pictures; markup is text"""
    async with browser(stores=(store,), services=(orders,)) as one:
        answer = await one.get("/sagas/saga", name="payment", id="o-1")
    page = answer.text
    assert SECRET not in page
    assert MARKUP not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "12.50" in page
    assert '<a href="/message?id=risk-1">risk-1</a>' in page
    assert "after 60 s" in page
    assert "Compensates, because" in page
    assert page.count('class="mq-picture"') == 2
    assert "Saga payment o-1: compensating" in page
    assert "What may happen" in page
    assert answer.headers["content-security-policy"].count("sha256-") == 2


async def test_without_its_service_the_page_says_what_would_show_its_class(
    store: SecretStr,
) -> None:
    """The history is drawn all the same"""
    async with browser(stores=(store,)) as one:
        page = (await one.get("/sagas/saga", id="o-1")).text
    assert page.count('class="mq-picture"') == 1
    assert "--service MODULE:SERVICE" in page


@pytest.mark.parametrize(
    ("column", "text"),
    [("state", "{"), ("progress", ""), ("progress", "[1]"), ("progress", '{"done": {"a": 1}}')],
)
async def test_a_saga_whose_row_is_nonsense_is_shown_as_far_as_it_can_be_read(
    store: SecretStr, column: str, text: str
) -> None:
    """Its page says what cannot be, and the list still has the others"""
    async with (
        Store(store.get_secret_value(), relay=False) as written,
        written.transaction() as transaction,
    ):
        row = update(sagas).where(sagas.c.id == "o-1")
        await transaction.execute(row.values({column: text}))
    async with browser(stores=(store,), services=(orders,)) as one:
        page = await one.get("/sagas/saga", name="payment", id="o-1")
        listed = (await one.get("/sagas")).text
    assert page.status_code == 200
    assert f"Not written by mqkit, and not readable</dt><dd>{column}" in page.text
    assert ">payment o-1</a>" in listed
    assert ">payment o-2</a>" in listed


async def test_a_saga_that_nobody_knows_is_404(store: SecretStr) -> None:
    """With what may be the reason; its id is text"""
    async with browser(stores=(store,)) as one:
        answer = await one.get("/sagas/saga", id=MARKUP)
    assert answer.status_code == 404
    assert MARKUP not in answer.text
    assert "it never began, or was completed so long ago" in answer.text
