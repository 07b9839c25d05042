"""The log of a failing service, as whoever runs it reads it: why, where, which message."""

from __future__ import annotations

import inspect
import json
import signal
from pathlib import Path
from typing import Any

from mqkit.testing.brokers.broker import Broker
from tests.integration import log_services
from tests.support import connected, eventually, running

SECRETS = {
    "bank": "url-passw0rd",
    "card": "4111 1111 1111 1111",
    "header": "opaque1234bearer",
    "quoted": "body-field-secret",
    "rejected": "tok-in-a-reason",
    "logged": "own-line-secret",
    "key": "never-quoted",
}
"""What goes wrong, and what its error quotes."""

MODULE = "tests.integration.log_services"


def line_of(words: str) -> int:
    """The number of the line of the service that has these words."""
    source = inspect.getsource(log_services).splitlines()
    return next(n for n, line in enumerate(source, start=1) if words in line)


async def log_of(broker: Broker, name: str, log: Path, *options: str) -> str:
    """What the service has logged after all of its messages have failed."""
    command = (f"{MODULE}:service", broker.url, log)
    with running(*command, *options, MQKIT_TEST_QUEUE=name) as process:
        started = "process 2: ready" if "--processes" in options else "consuming"
        await process.says(started, within=60)
        exchange = f"{name}.payments"
        async with connected(broker.url) as client:
            for what, secret in SECRETS.items():
                body = {"what": what, "secret": secret}
                key = f"order.{what}"
                await client.publisher.publish(exchange, key, body, message_id=f"m-{what}")
            await client.publisher.publish(exchange, "order.odd", {"amount": 3}, message_id="m-odd")
            dead = len(SECRETS) - 1 + 1
            await eventually(lambda: process.text().count(f"to {name}.post.dead") >= dead)
        process.send(signal.SIGTERM)
        assert await process.ends() == 0, process.text()
        return process.text()


async def test_a_line_says_why_where_and_which_message(
    mqkit_embedded: Broker, name: str, tmp_path: Path
) -> None:
    """And none has a secret: of a body, an error's text, a URL, a header or the application's."""
    text = await log_of(mqkit_embedded, name, tmp_path / "log")
    for secret in SECRETS.values():
        assert secret not in text
    assert "ACC-4711" not in text
    where = f"tests/integration/log_services.py:{line_of('raise BankError')} in charge"
    failed = (
        "BankError: the bank does not answer, caused by TimeoutError: "
        f"https://shop:***@bank.example/charge timed out, at {where} "
        f"[message m-bank, exchange {name}.payments, key order.bank, queue {name}.post]"
    )
    lines = [line for line in text.splitlines() if "m-bank" in line and "attempt" in line]
    retried = next(line for line in lines if "attempt 1 of 2 failed, retry in 0.2 s" in line)
    died = next(line for line in lines if "attempt 2 of 2 failed" in line)
    assert (" WARNING " in retried, " ERROR " in died) == (True, True)
    assert retried.endswith(failed), retried
    assert died.endswith(failed), died
    assert f"dead-lettered to {name}.post.dead (attempts-exhausted)" in died
    rejected = f"attempt 1 of 2 rejected it, dead-lettered to {name}.post.dead"
    assert f"{rejected}: account *** is closed, said token=***, at " in text
    assert f"posting card for customer=*** [{MODULE}.post: message m-card, attempt 1]" in text


async def test_json_is_one_object_a_line(mqkit_embedded: Broker, name: str, tmp_path: Path) -> None:
    """Each has its fields, a handler's own lines, too; none has a secret."""
    options = ("--log-format", "json", "--processes", "2")
    text = await log_of(mqkit_embedded, name, tmp_path / "log", *options)
    for secret in SECRETS.values():
        assert secret not in text
    records: list[dict[str, Any]] = [json.loads(line) for line in text.splitlines()]
    assert all({"time", "level", "logger", "message"} <= record.keys() for record in records)
    assert {record["process"] for record in records} == {"supervisor", "ledger.1", "ledger.2"}
    identified = {
        "service": "ledger",
        "handler": f"{MODULE}.post",
        "queue": f"{name}.post",
        "message_id": "m-key",
        "attempt": 2,
        "exchange": f"{name}.payments",
        "routing_key": "order.key",
    }
    of_key = [record for record in records if identified.items() <= record.items()]
    own, failed = sorted(of_key, key=lambda record: "outcome" in record)
    assert own["message"] == "posting key for customer=***"
    assert (failed["level"], failed["outcome"]) == ("ERROR", "dead-letter")
    assert (failed["reason"], failed["max_attempts"]) == ("attempts-exhausted", 2)
    where = f"tests/integration/log_services.py:{line_of('json.loads')} in post"
    assert failed["error"] == {"type": "KeyError", "text": "'account'", "where": where}
