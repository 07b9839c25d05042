"""The console's application as a whole: markup and secrets on its pages, errors, what it closes."""

from __future__ import annotations

import re

import pytest

from mqkit.errors import (
    ConfigurationError,
    ConnectError,
    MqkitError,
    StoreUnavailableError,
)
from mqkit.overview.values import Overview, Role, StoreView
from mqkit.pause import Status
from tests.unit.console.samples import NOW, browser, handler, process, queue, service, shop

PASSWORD, TOKEN = "hunter2-planted", "ghp_" + "a1B2" * 9
SECRETS = (PASSWORD, TOKEN, "4111111111111111")
SECRET = f"password={PASSWORD} {TOKEN} amqp://u:{PASSWORD}@h/ card 4111111111111111"
MARKUP = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'&"

PAGES = (
    "/",
    "/queues",
    "/handlers",
    "/handlers/handler",
    "/partitions",
    "/processes",
    "/dead-letters",
    "/dead-letters/queue",
)


def hostile(text: str, *, in_names: bool) -> Overview:
    """A system that has a text in all that it says of itself."""
    name = text if in_names else "a"
    reasons = (f"BankDownError: {text}",)
    bad = handler(
        name,
        name,
        queue=name,
        consumers={Status.PAUSED: 1},
        because=reasons,
        owners={f"{name}.p0": name},
    )
    return Overview(
        NOW,
        text,
        (f"management: {text}",),
        (
            service(
                name,
                bad,
                processes=(
                    process(
                        name, id=name, host=text, is_ready=False, problems=reasons, server=text
                    ),
                ),
                store=StoreView(name, False, 1, 1, 1.0),
            ),
        ),
        (
            queue(name),
            queue(f"{name}.p0", Role.PARTITION, of=name),
            queue(f"{name}.dead", Role.DEAD, of=name),
        ),
    )


@pytest.mark.parametrize("path", PAGES)
async def test_markup_in_what_services_say_is_text(path: str) -> None:
    """In names, reasons, problems and errors, and in what a browser asks for: never markup."""
    name = MARKUP.replace("/", "")
    async with browser(hostile(name, in_names=True)) as one:
        answer = await one.get(path, service=name, name=name, queue=name, q="", role=name)
        echoed = await one.get(path, q=name, queue=name, service=name)
    for page in (answer.text, echoed.text):
        assert "<script>alert" not in page
        assert "<img" not in page
        assert not re.search(r'="[^"]*"\'', page), "nothing closes an attribute"
    if path != "/dead-letters/queue":
        assert "&lt;script&gt;alert" in answer.text


@pytest.mark.parametrize("path", PAGES)
async def test_planted_secrets_are_on_no_page(path: str) -> None:
    """Passwords, tokens, URLs and cards in what services say of themselves are masked."""
    async with browser(hostile(SECRET, in_names=False)) as one:
        answer = await one.get(path, service="a", name="a", queue="a")
    assert "***" in answer.text
    for secret in SECRETS:
        assert secret not in answer.text


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ConnectError(f"no broker: {SECRET}"), 503),
        (StoreUnavailableError(f"no database: {SECRET}"), 503),
        (ConfigurationError(f"no such thing: {SECRET}"), 400),
        (MqkitError(f"another one: {SECRET}"), 500),
    ],
)
async def test_errors_of_mqkit_are_shown_as_text(error: MqkitError, status: int) -> None:
    """With what to do, and without what is secret."""
    async with browser() as one:
        watching = one.app.state.desk._watching
        well = watching.overview
        calls = 0

        def fail_once() -> Overview:
            nonlocal calls
            calls += 1
            if calls == 1:
                raise error
            return shop()

        watching.overview = fail_once
        answer = await one.get("/queues")
        watching.overview = well
        again = await one.get("/queues")
    assert answer.status_code == status
    assert str(error).partition(":")[0] in answer.text
    for secret in SECRETS:
        assert secret not in answer.text
    assert again.status_code == 200


async def test_what_is_no_page_is_said_to_be_none() -> None:
    """An address that leads nowhere is answered with a page that says so, and 404."""
    async with browser() as one:
        answer = await one.get("/nowhere")
    assert answer.status_code == 404
    assert "There is no such page" in answer.text
    assert "leads to no page of the console" in answer.text


async def test_an_address_with_a_slash_too_many_is_no_page() -> None:
    """It is not led on: a whole address would be another one behind a proxy that ends TLS."""
    async with browser() as one:
        answer = await one.get("/queues/")
    assert answer.status_code == 404
    assert "location" not in answer.headers


async def test_pages_load_nothing_from_elsewhere() -> None:
    """No address on a page leads to another host, and no script or style stands in it."""
    async with browser() as one:
        for path in PAGES:
            page = (await one.get(path, service="ledger", name="post", queue="ledger.post")).text
            assert not re.search(r'(?:href|src|action)="(?!/(?!/)|#)', page), path
            assert not re.search(r"<style|style=|\son\w+=|javascript:", page), path
            assert re.findall(r"<script[^>]*>[^<]*", page) == [
                '<script src="/static/console.js" defer>'
            ], path


async def test_pages_are_built_alike() -> None:
    """One h1, a language, a way to skip to the content; captions of tables, labels of fields."""
    async with browser(allow_changes=True) as one:
        for path in (*PAGES, "/login"):
            page = (await one.get(path, service="ledger", name="post", queue="ledger.post")).text
            assert page.count("<h1>") == 1, path
            assert '<html lang="en">' in page
            assert '<a class="skip" href="#main">' in page
            assert page.count("<table>") == page.count("<caption") == page.count("<thead>")
            for field in re.findall(
                r'<(?:input|select|textarea) (?![^>]*type="hidden")[^>]*', page
            ):
                name = re.search(r'id="([^"]+)"', field)
                assert (name and f'for="{name[1]}"' in page) or 'type="checkbox"' in field, field


async def test_the_problems_of_the_view_stand_on_each_page() -> None:
    """A broker that is away is said wherever its figures would be."""
    async with browser(shop(problems=("not connected to the broker",))) as one:
        for path in ("/", "/queues", "/handlers", "/dead-letters"):
            assert "not connected to the broker" in (await one.get(path)).text


async def test_the_theme_is_kept_in_a_cookie() -> None:
    """Light, dark, or what the browser's system says; it leads back to the page that it was on."""
    async with browser() as one:
        answer = await one.post("/theme", {"theme": "dark", "next": "/queues?q=a"})
        assert answer.headers["location"] == "/queues?q=a"
        page = (await one.get("/")).text
        assert 'data-theme="dark"' in page
        assert '<p class="note">Pages are dark now.</p>' in page
        assert "Pages are dark now." not in (await one.get("/")).text
        await one.post("/theme", {"theme": "<b>"})
        assert "data-theme" not in (await one.get("/")).text
