"""A store with a message of each kind and a saga, with markup and secrets in all that is text."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from pydantic import SecretStr
from sqlalchemy import update

from mqkit.outcome import Ack, DeadLetter, DeathReason, RetryAfter
from mqkit.registration.sagas import SagaEntry, SagaRow
from mqkit.store import Store, Transaction
from mqkit.store.schema import outbox
from tests.unit.console.samples import NOW
from tests.unit.store.support import delivery, publish

SECRET = "hunter2-hunter2"
MARKUP = "<script>alert(1)</script>"

SAGA = SagaRow(
    name="payment",
    id="o-1",
    version=2,
    state_version=1,
    status="compensating",
    state=json.dumps({"amount": "12.50", "password": SECRET, "note": MARKUP, "lines": [1, 2]}),
    progress=json.dumps(
        {
            "timeouts": {"late": "1" * 32},
            "done": [{"name": "hold", "token": "2" * 32}],
            "reason": f"refused, token={SECRET}",
        }
    ),
    started_at=NOW,
    updated_at=NOW,
)
PUBLISHED = {
    "type": "CheckRisk",
    "message_id": "risk-1",
    "exchange": "risk",
    "routing_key": "check",
}
ENTRY = SagaEntry(
    "payment",
    "o-1",
    NOW,
    "shop.Payment.placed",
    "o-1",
    "PlaceOrder",
    "ran",
    "running",
    json.dumps({"password": SECRET, "note": MARKUP}),
    json.dumps([PUBLISHED, {**PUBLISHED, "message_id": "later-1", "delay": 60}]),
)


def url_of(folder: Path, name: str = "shop") -> SecretStr:
    """The URL of a store of this test."""
    return SecretStr(f"sqlite:///{folder / name}.sqlite")


async def fill(url: SecretStr) -> None:
    """Write messages that wait, failed and succeeded, a full outbox, and sagas."""

    async def nothing(_: Transaction) -> dict[str, str]:
        return {"note": MARKUP, "password": SECRET}

    async with Store(url.get_secret_value(), relay=False) as store:
        bad = ValueError(f"{MARKUP} password={SECRET}")
        store.settled("shop.place", delivery("m-retrying"), RetryAfter(3600, bad))
        store.settled("shop.place", delivery("m-dead"), DeadLetter(DeathReason.REJECTED, bad))
        result = await store.run_once("shop.place", delivery("o-1"), nothing)
        store.settled("shop.place", delivery("o-1"), Ack(result))
        await publish(store, "never-1", "never-2")
        async with store.transaction() as transaction:
            error = f"{MARKUP} no exchange, password={SECRET}"
            await transaction.execute(update(outbox).values(shard=-1, attempts=3, error=error))
        await publish(store, *(f"waits-{number:03d}" for number in range(60)))
        async with store.transaction() as transaction:
            await transaction.saga_rows.insert(SAGA, ENTRY, keep=None)
            other = replace(SAGA, id="o-2", status="running")
            await transaction.saga_rows.insert(other, replace(ENTRY, id="o-2"), keep=None)
