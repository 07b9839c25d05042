"""Dead letters on a broker, looked at and moved by requests as a browser sends them."""

from __future__ import annotations

import asyncio
import html
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pydantic import SecretStr

from mqkit import Queue, Retry, Service
from mqkit.console.letters.jobs import Status
from mqkit.overview.values import Role
from mqkit.settings import BrokerUrl
from mqkit.store import Store
from mqkit.testing.brokers.broker import Broker
from tests.integration.dead_letters.services import Order
from tests.integration.dead_letters.support import SECRETS, declare, fill
from tests.support import Client, connected, eventually
from tests.unit.console.samples import Browser, browser, queue, shop

pytestmark = pytest.mark.in_turn(embedded=True)

CARD, PASSWORD, TOKEN = SECRETS
SECRET = f"card {CARD} password={PASSWORD} {TOKEN}"
MARKUP = b'{"note": "<script>alert(1)</script>", "password": "hunter2-planted"}'


@asynccontextmanager
async def console(url: str, name: str, **more: object) -> AsyncIterator[Browser]:
    """A browser at a console that sees a queue's dead letters."""
    queues = (queue(f"{name}.dead", Role.DEAD, of=name), queue(name))
    options: dict[str, Any] = {"allow_changes": True, **more}
    async with browser(shop(queues=queues), url=BrokerUrl.parse(url), **options) as one:
        yield one


class Page:
    """A page, and what is on it."""

    def __init__(self, text: str) -> None:
        self.text = text

    def links(self, begin: str) -> list[str]:
        """The addresses on it that begin like this."""
        found = re.findall(r'href="([^"]+)"', self.text)
        return [address for each in found if (address := html.unescape(each)).startswith(begin)]

    def form(self, action: str) -> dict[str, str]:
        """The hidden fields of a form on it."""
        whole = re.search(rf'<form [^>]*action="{action}">(.*?)</form>', self.text, re.DOTALL)
        assert whole is not None, f"no form {action}"
        found = re.findall(r'type="hidden" name="([^"]+)" value="([^"]*)"', whole[1])
        return {name: html.unescape(value) for name, value in found}


async def page(one: Browser, address: str) -> Page:
    """Load a page, and again while it says that it goes through the queue."""
    async with asyncio.timeout(20):
        while True:
            answer = await one.http.get(address)
            assert answer.status_code == 200, answer.text
            if "Going through the" not in answer.text and 'data-refresh="1"' not in answer.text:
                return Page(answer.text)
            await asyncio.sleep(0.05)


async def send(one: Browser, of: Page, action: str, **fields: str) -> Page:
    """Send a form of a page, and load where that leads to."""
    answer = await one.post(action, of.form(action) | fields)
    assert answer.status_code == 303, answer.text
    return await page(one, answer.headers["location"])


async def count(client: Client, name: str, expected: int) -> None:
    """Wait until so many messages are in a queue."""

    async def is_there() -> bool:
        return await client.messages(name) == expected

    await eventually(is_there, what=f"{expected} messages in {name}")


async def test_a_group_is_found_understood_rehearsed_and_replayed(
    broker: Broker, name: str
) -> None:
    """By pages and forms alone; the account says who did it and why, and what was left is there."""
    async with connected(broker.url) as client:
        await fill(client, name, [b'{"n": %d}' % n for n in range(20)], SECRET)
        async with console(broker.url, name) as one:
            first = await page(one, "/dead-letters")
            queues = await page(one, first.links("/dead-letters/queue")[0])
            assert "20 dead letters in 5 groups" in queues.text
            groups = queues.links("/dead-letters/group")
            assert len(groups) == 5
            group = await page(one, groups[0])
            letter = await page(one, group.links("/dead-letters/letter")[0])
            assert "Traceback (most recent call last)" in letter.text
            dry = await send(one, group, "/dead-letters/dry-run")
            assert "<strong>4 messages</strong>" in dry.text
            await count(client, name, 0)
            done = await send(one, dry, "/dead-letters/replay", why="it is back", rate="1000")
            assert "<strong>4 dead letters</strong> were replayed" in done.text
            assert "16 dead letters that were there at the beginning" in done.text
            await count(client, name, 4)
            left = await page(one, first.links("/dead-letters/queue")[0])
            assert "16 dead letters in 4 groups" in left.text
            audit = await page(one, done.links("/dead-letters/audit")[0])
            assert "it is back" in audit.text
            assert "replay, ended" in audit.text
            assert ">ann</th>" in audit.text
            lately = await page(one, "/dead-letters")
            assert "What this console did" in lately.text


async def test_archived_letters_come_back(broker: Broker, name: str) -> None:
    """All of a queue are archived, seen in the archive, and one of them is restored."""
    async with connected(broker.url) as client:
        await fill(client, name, [b"{}"] * 6)
        async with console(broker.url, name) as one:
            address = f"/dead-letters/queue?queue={name}"
            whole = await page(one, address)
            done = await send(one, whole, "/dead-letters/archive", why="old")
            assert "<strong>6 dead letters</strong> were archived" in done.text
            assert "There are no dead letters of this queue" in (await page(one, address)).text
            archive = await page(one, f"{address}&archived=yes")
            group = await page(one, archive.links("/dead-letters/group")[0])
            letter = await page(one, group.links("/dead-letters/letter")[0])
            done = await send(one, letter, "/dead-letters/restore", why="after all")
            assert "<strong>1 dead letter</strong> was restored" in done.text
            assert "1 dead letter in 1 group" in (await page(one, address)).text
            assert "5 dead letters in" in (await page(one, f"{address}&archived=yes")).text


async def test_no_page_has_a_secret_or_markup_of_a_message(broker: Broker, name: str) -> None:
    """In errors, tracebacks, bodies, reasons and the account alike, with and without changes."""
    async with connected(broker.url) as client:
        await fill(client, name, [MARKUP] * 5, f"<script>{SECRET}")
        pages = []
        for allow in (True, False):
            async with console(broker.url, name, allow_changes=allow) as one:
                pages.append(await page(one, f"/dead-letters/queue?queue={name}"))
                groups = [await page(one, at) for at in pages[-1].links("/dead-letters/group")]
                letters = [each.links("/dead-letters/letter")[0] for each in groups]
                pages += [*groups, *[await page(one, each) for each in letters]]
                pages.append(await send(one, pages[-1], "/dead-letters/dry-run"))
                if allow:
                    why = f"<script>{SECRET}"
                    pages.append(await send(one, pages[-1], "/dead-letters/replay", why=why))
                else:
                    assert 'action="/dead-letters/replay"' not in pages[-1].text
                pages.append(await page(one, f"/dead-letters/audit?queue={name}"))
                pages.append(await page(one, "/dead-letters"))
    for each in pages:
        assert "<script>" not in each.text
        for secret in SECRETS:
            assert secret not in each.text
    assert any("&lt;script&gt;alert(1)" in each.text for each in pages)
    assert any("***" in each.text for each in pages)


async def test_the_end_of_the_console_interrupts_a_replay_and_loses_nothing(
    broker: Broker, name: str
) -> None:
    """What was replayed is in its queue, the rest where it was; the account says it was cut off."""
    async with connected(broker.url) as client:
        await fill(client, name, [b"{}"] * 60)
        async with console(broker.url, name) as one:
            whole = await page(one, f"/dead-letters/queue?queue={name}")
            dry = await send(one, whole, "/dead-letters/dry-run")
            fields = dry.form("/dead-letters/replay") | {"why": "a test", "rate": "20"}
            await one.post("/dead-letters/replay", fields)
            jobs = one.app.state.desk.letters.jobs
            job = jobs.running(name)
            assert job is not None
            refused = await one.post("/dead-letters/archive", fields)
            assert refused.status_code == 409
            assert "is under way" in refused.text
            busy = await one.get("/dead-letters/queue", queue=name)
            assert "These dead letters are looked at again when it has ended" in busy.text
            await eventually(lambda: job.done >= 5)
        assert job.status is Status.STOPPED
        replayed = await client.messages(name)
        await count(client, f"{name}.dead", 60 - job.done)
        assert job.done <= replayed <= job.done + 1
        async with console(broker.url, name) as one:
            audit = await page(one, f"/dead-letters/audit?queue={name}")
            assert "replay, failed" in audit.text
            whole = await page(one, f"/dead-letters/queue?queue={name}")
            assert f"{60 - job.done} dead letters in" in whole.text


async def test_a_replay_is_stopped_by_its_page(broker: Broker, name: str) -> None:
    """What it has not moved is where it was, and the next one may begin."""
    async with connected(broker.url) as client:
        await fill(client, name, [b"{}"] * 40)
        async with console(broker.url, name) as one:
            whole = await page(one, f"/dead-letters/queue?queue={name}")
            dry = await send(one, whole, "/dead-letters/dry-run")
            fields = dry.form("/dead-letters/replay") | {"why": "a test", "rate": "10"}
            running = (await one.post("/dead-letters/replay", fields)).headers["location"]
            job = one.app.state.desk.letters.jobs.running(name)
            assert job is not None
            await eventually(lambda: job.done >= 2)
            shown = Page((await one.http.get(running)).text)
            assert "<progress" in shown.text
            ended = await send(one, shown, "/dead-letters/stop")
            assert "It was stopped" in ended.text
            await count(client, f"{name}.dead", 40 - job.done)


async def test_who_else_has_them_is_said(broker: Broker, name: str) -> None:
    """A consumer of the dead letters, or no such queue: the page says what to do, and is there."""
    async with connected(broker.url) as client:
        await fill(client, name, [b"{}"])
        async with client.channel() as channel, console(broker.url, name) as one:
            await channel.consume(f"{name}.dead", lambda _: None, lambda: None)
            in_use = await page(one, f"/dead-letters/queue?queue={name}")
            none = await page(one, f"/dead-letters/queue?queue={name}.other")
    assert "They are in use" in in_use.text
    assert "stop the handler of these dead letters first" in in_use.text
    assert "could not be looked at" in none.text
    assert "there is no queue" in none.text


async def test_a_broker_that_is_away_is_said(name: str) -> None:
    """The page is there, and says what could not be reached."""
    async with console("amqp://guest:planted@127.0.0.1:1/?connect_timeout=1", name) as one:
        found = await page(one, f"/dead-letters/queue?queue={name}")
    assert "could not be looked at" in found.text
    assert "planted" not in found.text


async def test_a_dry_run_asks_handler_and_inbox(broker: Broker, name: str, database: str) -> None:
    """With --service and --store it says which bodies are taken, and what was handled already."""
    service = Service(name, retry=Retry.never())

    @service.handler(Queue(name))
    async def take(order: Order) -> None:
        """Do nothing."""

    async with Store(database, relay=False):
        pass  # its tables are there
    async with connected(broker.url) as client:
        await declare(client, Queue(name))
        await fill(client, name, [b'{"n": 1}', b'{"n": "x"}', b"no JSON"], declared=True)
        options = {"services": (service,), "stores": (SecretStr(database),)}
        async with console(broker.url, name, **options) as one:
            whole = await page(one, f"/dead-letters/queue?queue={name}")
            dry = await send(one, whole, "/dead-letters/dry-run")
    assert "1 have a body that the handler takes, 2 not" in dry.text
    assert "0 were handled already" in dry.text
    assert "m-1" in dry.text
