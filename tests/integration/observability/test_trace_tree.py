"""One trace over three services: with retries, an outbox, and a dead letter that is replayed."""

from __future__ import annotations

from pathlib import Path

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from tenacity import stop_after_attempt, wait_fixed

from mqkit import Exchange, Publisher, Queue, Retry, Service
from mqkit.dead_letters import DeadLetters, Pace
from mqkit.store import Store, Transaction
from mqkit.testing.harness import harness
from tests.support import eventually
from tests.traces import Collected, trace_of, tree

pytestmark = pytest.mark.in_turn(embedded=True)

TREE = """\
{n}.x publish
  {n}.orders receive
  {n}.orders process, attempt 1: retry
    {n}.orders settle: retry
  {n}.orders receive
  {n}.orders process, attempt 2: retry
    {n}.orders settle: retry
  {n}.orders receive
  {n}.orders process, attempt 3: ack
    {n}.x create
      {n}.x publish
      {n}.ledger receive
      {n}.ledger process, attempt 1: ack
        {n}.x publish
          {n}.mails receive
          {n}.mails process, attempt 1: dead-letter
            {n}.mails settle: dead-letter
          {n}.mails receive
          {n}.mails process, attempt 1: ack"""


def told(span: ReadableSpan) -> str:
    """Say what a span of a delivery came to."""
    attributes = dict(span.attributes or {})
    attempt = f", attempt {attributes['mqkit.attempt']}" if "mqkit.attempt" in attributes else ""
    outcome = f": {attributes['mqkit.outcome']}" if "mqkit.outcome" in attributes else ""
    return f"{span.name}{attempt}{outcome}"


async def test_three_services_two_retries_an_outbox_and_a_replay_are_one_trace(
    mqkit_vhost: str, name: str, tmp_path: Path
) -> None:
    """From the first publish to the replayed mail every span is under the one that caused it."""
    collected, exchange = Collected(), Exchange(f"{name}.x", type="topic")
    retry = Retry(stop=stop_after_attempt(3), wait=wait_fixed(0.1))
    store = Store(f"sqlite:///{tmp_path / 'store.sqlite'}")
    orders = Service(f"{name}.orders", retry=retry, store=store, tracing=collected.tracing)
    ledger = Service(f"{name}.ledger", retry=retry, tracing=collected.tracing)
    mails = Service(f"{name}.mails", retry=Retry.never(), tracing=collected.tracing)
    runs = 0
    is_up = False

    @orders.handler(Queue(f"{name}.orders"), bind=exchange.key("placed"))
    async def accept(order: dict[str, str], transaction: Transaction) -> None:
        nonlocal runs
        runs += 1
        if runs <= 2:
            raise ConnectionError("the price list is away")
        await transaction.publish(exchange, "accepted", order)

    @ledger.handler(Queue(f"{name}.ledger"), bind=exchange.key("accepted"))
    async def post(order: dict[str, str], publisher: Publisher) -> None:
        await publisher.publish(exchange, "posted", order)

    @mails.handler(Queue(f"{name}.mails"), bind=exchange.key("posted"))
    async def send(order: dict[str, str]) -> None:
        if not is_up:
            raise ConnectionError("no mail server")

    async with (
        harness(orders, url=mqkit_vhost),
        harness(ledger, url=mqkit_vhost),
        harness(mails, url=mqkit_vhost) as m,
    ):
        async with Publisher(mqkit_vhost, tracing=collected.tracing) as publisher:
            await publisher.publish(exchange, "placed", {"id": "o-1"})
        await eventually(lambda: len(m.dead_lettered) == 1)
        is_up = True
        async with DeadLetters(mqkit_vhost, f"{name}.mails", who="ann") as dead:
            replayed = await dead.replay(why="the mail server is back", pace=Pace(watch=0))
        assert replayed.replayed == 1
        await eventually(lambda: len(m.handled) == 1)

    assert tree(collected.spans, told) == TREE.format(n=name)
    assert len({trace_of(span) for span in collected.spans}) == 1
