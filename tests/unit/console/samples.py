"""A system that is made up, and a browser that asks a console over it, for tests."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from pydantic import SecretStr
from starlette.applications import Starlette

from mqkit.console.app import create_app
from mqkit.console.settings import ConsoleSettings
from mqkit.overview.values import (
    HandlerView,
    Outcomes,
    Overview,
    ProcessView,
    QueueView,
    Role,
    ServiceView,
    StoreView,
)
from mqkit.pause import Status
from mqkit.settings import BrokerUrl

NOW = datetime.now(UTC)
TOKEN = "a token for tests only"
ORIGIN = "http://127.0.0.1:8472"
NOBODY = BrokerUrl.parse("amqp://guest:guest@127.0.0.1:1/?connect_timeout=1")
"""A broker that is not there."""


def process(service: str, number: int = 1, **more: Any) -> ProcessView:
    """A process that is well."""
    values: dict[str, Any] = {
        "id": f"{service}-{number}",
        "service": service,
        "host": f"host-{number}",
        "pid": 4000 + number,
        "started_at": NOW - timedelta(hours=3),
        "seen_at": NOW - timedelta(seconds=1),
        "is_silent": False,
        "is_ready": True,
        "in_flight": 4,
        "rate": 120.5,
        "server": "RabbitMQ 4.3.0",
        "mqkit": "0.1.0",
    }
    return ProcessView(**values | more)


def handler(service: str, name: str, **more: Any) -> HandlerView:
    """A handler that is well."""
    values: dict[str, Any] = {
        "service": service,
        "name": name,
        "queue": f"{service}.{name}",
        "consumers": {Status.CONSUMING: 2},
        "because": (),
        "outcomes": Outcomes(acked=120_345, retried=17, dead_lettered=3),
        "rate": 60.2,
        "failing": 0.0,
        "mean_seconds": 0.0042,
        "in_flight": 3,
        "pauses": 0,
    }
    return HandlerView(**values | more)


def queue(name: str, role: Role = Role.WORK, **more: Any) -> QueueView:
    """A queue with a few messages."""
    values: dict[str, Any] = {
        "kind": "quorum",
        "ready": 12,
        "unacked": 3,
        "consumers": 2,
        "rate_in": 61.5,
        "rate_out": 60.2,
    }
    return QueueView(name, role, **values | more)


def service(name: str, *handlers: HandlerView, **more: Any) -> ServiceView:
    """A service that is well."""
    values: dict[str, Any] = {
        "processes": (process(name, 1), process(name, 2)),
        "handlers": handlers,
        "store": None,
        "published": {"confirmed": 1000},
        "publish_rate": 12.0,
    }
    return ServiceView(name, **values | more)


def shop(**more: Any) -> Overview:
    """A small system in which some things are wrong."""
    partitions = {
        f"billing.charge.p{number}": f"billing-{1 + number % 2}" if number < 3 else ""
        for number in range(4)
    }
    ledger = service(
        "ledger",
        handler("ledger", "post"),
        handler("ledger", "close_month", rate=0.0, mean_seconds=None),
        store=StoreView("ledger", True, 14, 1, 3.5, {("order", "running"): 12}),
    )
    billing = service(
        "billing",
        handler("billing", "charge", owners=partitions, rate=33.0),
        handler(
            "billing",
            "refund",
            consumers={Status.PAUSED: 2},
            because=("BankDownError at billing/bank.py:42 in send, 12 of the last 20 runs",),
            pauses=3,
            rate=0.0,
            failing=0.6,
        ),
        processes=(
            process("billing", 1),
            process("billing", 2, is_silent=True, seen_at=NOW - timedelta(minutes=4)),
        ),
    )
    queues = (
        queue("billing.refund", ready=4210, rate_out=0.0),
        queue("ledger.post"),
        queue("ledger.close_month", ready=0, rate_in=0.0, rate_out=0.0),
        queue("billing.charge", ready=0),
        *(
            queue(each, Role.PARTITION, of="billing.charge", ready=7, consumers=int(bool(owner)))
            for each, owner in partitions.items()
        ),
        queue("ledger.post.dead", Role.DEAD, of="ledger.post", ready=31, consumers=0, rate_out=0.0),
        queue("ledger.post.dead.archive", Role.ARCHIVE, of="ledger.post", ready=5, consumers=0),
        queue("mqkit.delay.1", Role.DELAY, consumers=0),
        queue("other.things", Role.OTHER, kind="classic", rate_in=None, rate_out=None),
    )
    values: dict[str, Any] = {
        "at": NOW,
        "server": "RabbitMQ 4.3.0",
        "problems": (),
        "services": (billing, ledger),
        "queues": queues,
    }
    return Overview(**values | more)


class Watch:
    """Has one overview, in the place of a watcher."""

    def __init__(self, overview: Overview | None = None) -> None:
        self.now = overview or shop()
        self.looks = 0

    async def fresh(self) -> None:
        """Count it."""
        self.looks += 1

    def overview(self) -> Overview:
        """Return it."""
        return self.now


def settings(**more: Any) -> ConsoleSettings:
    """Settings of a console that nobody else uses."""
    values: dict[str, Any] = {"url": NOBODY, "token": SecretStr(TOKEN), "who": "ann"}
    return ConsoleSettings(**values | more)


class Browser:
    """Asks a console as a browser does."""

    def __init__(self, app: Starlette) -> None:
        self.app = app
        self.app.state.desk.door._slowed_by = 0.0
        self.http = httpx.AsyncClient(
            transport=httpx.ASGITransport(app, raise_app_exceptions=True), base_url=ORIGIN
        )

    async def login(self, token: str = TOKEN) -> httpx.Response:
        """Show the token."""
        return await self.http.post("/login", data={"token": token}, headers={"origin": ORIGIN})

    async def get(self, path: str, **query: str) -> httpx.Response:
        """Load a page."""
        return await self.http.get(path, params=query or None)

    async def csrf(self) -> str:
        """Return the secret that forms of this session have."""
        found = re.search(r'name="csrf" value="([^"]+)"', (await self.get("/handlers")).text)
        assert found is not None
        return found[1]

    async def post(self, path: str, fields: dict[str, str] | None = None) -> httpx.Response:
        """Send a form from a page of this console."""
        data = {"csrf": await self.csrf(), **(fields or {})}
        headers = {"origin": ORIGIN, "sec-fetch-site": "same-origin"}
        return await self.http.post(path, data=data, headers=headers)


@contextlib.asynccontextmanager
async def browser(
    overview: Overview | None = None, *, logged_in: bool = True, **more: Any
) -> AsyncIterator[Browser]:
    """A browser at a console over a made-up system."""
    app = create_app(settings(**more), Watch(overview))
    async with app.router.lifespan_context(app):
        one = Browser(app)
        async with one.http:
            if logged_in:
                assert (await one.login()).status_code == 303
            yield one
