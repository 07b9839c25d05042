"""What a trace and a log say of a message with secrets in it."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
from opentelemetry import trace
from tenacity import stop_after_attempt, wait_fixed

from mqkit import Publisher, Queue, Retry, Service
from mqkit.logging import FieldsFilter, JsonFormatter, TextFormatter
from mqkit.testing.harness import harness
from tests.support import eventually
from tests.traces import Collected, id_of, trace_of

pytestmark = pytest.mark.in_turn(embedded=True)

CARD, PASSWORD, TOKEN = "4111 1111 1111 1111", "planted-password", "eyJhbGciOiJIUzI1NiJ9.planted.x"

SECRETS = (CARD, CARD.replace(" ", ""), PASSWORD, TOKEN)


@pytest.fixture
def logged() -> Iterator[dict[str, io.StringIO]]:
    """Everything that is logged, as lines and as JSON."""
    root, texts = logging.getLogger(), {"text": io.StringIO(), "json": io.StringIO()}
    handlers = []
    for kind, formatter in (("text", TextFormatter()), ("json", JsonFormatter())):
        handler = logging.StreamHandler(texts[kind])
        handler.setFormatter(formatter)
        handler.addFilter(FieldsFilter())
        handlers.append(handler)
        root.addHandler(handler)
    level = root.level
    root.setLevel(logging.DEBUG)
    yield texts
    root.setLevel(level)
    for handler in handlers:
        root.removeHandler(handler)


async def test_no_secret_is_in_a_span_or_a_log_and_each_line_has_its_trace(
    mqkit_vhost: str, name: str, logged: dict[str, io.StringIO]
) -> None:
    """Card number, password and token are in body, headers and errors, and nowhere else."""
    collected = Collected()
    retry = Retry(stop=stop_after_attempt(2), wait=wait_fixed(0.1))
    service = Service(name, retry=retry, tracing=collected.tracing)
    queue, runs = f"{name}.q", []

    @service.handler(Queue(queue))
    async def handle(body: dict[str, str]) -> None:
        runs.append(trace.get_current_span().get_span_context())
        logging.getLogger("shop").warning("card %s, token=%s", body["card"], body["token"])
        problem = f"card {body['card']}, password={PASSWORD}, Authorization: Bearer {TOKEN}"
        raise ValueError(problem) from ConnectionError(f"amqp://user:{PASSWORD}@host/")

    async with harness(service, url=mqkit_vhost):
        async with Publisher(mqkit_vhost, tracing=collected.tracing) as publisher:
            body = {"card": CARD, "token": TOKEN}
            headers = {"authorization": f"Bearer {TOKEN}", "password": PASSWORD}
            await publisher.publish("", queue, body, headers=headers)
        await eventually(lambda: len(collected.named(f"{queue} settle")) == 2)

    told = {"spans": collected.texts} | {kind: text.getvalue() for kind, text in logged.items()}
    for kind, text in told.items():
        assert "ValueError" in text, kind
        for secret in SECRETS:
            assert secret not in text, kind

    ids = [(f"{run.trace_id:032x}", f"{run.span_id:016x}") for run in runs]
    assert [
        (f"{trace_of(s):032x}", f"{id_of(s):016x}") for s in collected.named(f"{queue} process")
    ] == ids
    lines = [json.loads(line) for line in logged["json"].getvalue().splitlines()]
    for logger in ("shop", "mqkit.deliveries"):
        of = [each for each in lines if each["logger"] == logger]
        assert [(each["trace_id"], each["span_id"]) for each in of] == ids, logger
    assert logged["text"].getvalue().count(f"[trace {ids[0][0]}, span {ids[0][1]}]") >= 2


async def test_without_a_span_a_log_has_no_ids(
    mqkit_vhost: str, name: str, logged: dict[str, io.StringIO]
) -> None:
    """A service without tracing logs what it did before, though OpenTelemetry is imported."""
    service = Service(name, retry=Retry.never())
    queue = f"{name}.q"

    @service.handler(Queue(queue))
    async def handle(body: bytes) -> None:
        logging.getLogger("shop").warning("handled")

    async with harness(service, url=mqkit_vhost) as h:
        await h.publish("", queue, b"x")
        await h.idle()
    assert "trace_id" not in logged["json"].getvalue()
    assert "[trace" not in logged["text"].getvalue()
