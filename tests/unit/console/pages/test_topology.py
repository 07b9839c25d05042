"""The topology as a picture, and the same in words."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from handlers.orders import service as orders
from tests.unit.console.samples import browser, queue, shop

ANSWERS = {
    "exchanges": [
        {"name": "", "type": "direct"},
        {"name": "amq.topic", "type": "topic"},
        {"name": "payments", "type": "topic"},
        {"name": "front", "type": "fanout"},
        {"name": "unused", "type": "topic"},
    ],
    "bindings": [
        {
            "source": "",
            "destination": "ledger.post",
            "destination_type": "queue",
            "routing_key": "ledger.post",
        },
        {
            "source": "payments",
            "destination": "ledger.post",
            "destination_type": "queue",
            "routing_key": "order.<b>.#",
        },
        {
            "source": "front",
            "destination": "payments",
            "destination_type": "exchange",
            "routing_key": "",
        },
        {
            "source": "payments",
            "destination": "billing.charge.p1",
            "destination_type": "queue",
            "routing_key": "charge",
        },
    ],
}


class Management(http.server.BaseHTTPRequestHandler):
    """Answers as a management API does."""

    asked: list[str]

    def do_GET(self) -> None:
        """Answer a list."""
        self.asked.append(self.path)
        kind = self.path.split("/")[2]
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(ANSWERS[kind]).encode())

    def log_message(self, format: str, *_: object) -> None:  # noqa: A002 - its base names it
        """Say nothing."""


@pytest.fixture
def management() -> Iterator[tuple[SecretStr, list[str]]]:
    """Its URL, and what it was asked."""
    asked: list[str] = []

    class Asked(Management):
        """Notes for this test alone."""

    Asked.asked = asked
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Asked) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield SecretStr(f"http://ann:secret@127.0.0.1:{server.server_port}"), asked
        server.shutdown()
        thread.join()


async def test_what_runs_is_drawn_with_its_bindings(
    management: tuple[SecretStr, list[str]],
) -> None:
    """Exchanges that lead to queues, through other exchanges too; partitions are their queue's"""
    url, asked = management
    async with browser(management=url) as one:
        page = (await one.get("/topology")).text.replace("<wbr>", "")
        assert (await one.get("/topology")).text.count("<svg") == 1
    assert "order.&lt;b&gt;.#" in page
    assert "order.<b>" not in page
    rows = page[page.index("The same in words") :]
    assert '<th scope="row">exchange front</th><td class="text">exchange payments</td>' in rows
    assert (
        '<th scope="row">exchange payments</th><td class="text">queue billing.charge</td>' in rows
    )
    assert "unused" not in rows
    assert "amq.topic" not in rows
    assert "mqkit.delay" not in rows
    assert "4 partitions" in page
    assert "31 messages" in page
    assert "billing, paused" in page
    assert len(asked) == 2, "asked once for both pages"


async def test_without_the_management_api_it_says_what_is_not_seen() -> None:
    """Queues and handlers are drawn as the services tell"""
    async with browser() as one:
        page = (await one.get("/topology", service="ledger")).text
    assert "Not seen: which bindings the broker has" in page
    assert "queue ledger.post" in page
    assert "billing.charge" not in page


async def test_an_api_that_is_away_costs_the_bindings_alone() -> None:
    """Its password is not on the page"""
    url = SecretStr("http://ann:hunter2@127.0.0.1:1")
    async with browser(management=url) as one:
        page = (await one.get("/topology")).text
    assert "Not seen: http://127.0.0.1:1 does not answer" in page
    assert "hunter2" not in page
    assert "queue ledger.post" in page


async def test_a_large_system_is_drawn_in_part() -> None:
    """The queues with the largest backlog; the page says so"""
    many = tuple(queue(f"q.{number:03d}", ready=number) for number in range(500))
    async with browser(shop(queues=many)) as one:
        page = (await one.get("/topology")).text
    assert "are too many for one picture: these are the 40 with" in page
    assert "q.499" in page
    assert "q.100" not in page


async def test_what_services_declare_is_drawn_where_they_were_given() -> None:
    """With retries, by the same picture as `mqkit topology graph`"""
    async with browser(services=(orders,)) as one:
        page = (await one.get("/topology", view="declared")).text
    assert "orders.place.dead" in page
    assert 'value="declared" selected' in page
