"""The conformance suite, one test for each case and client, on the brokers that were found."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from mqkit.testing.brokers.broker import Broker
from tests.conformance.suite.clients import CLIENTS, Client
from tests.conformance.suite.env import Session
from tests.conformance.suite.runner import run_case
from tests.conformance.suite.suite import Case, collect
from tests.conformance.suite.targets import target_of

PAIRS = [
    pytest.param(
        client,
        case,
        id=f"{client.label}-{case.id}",
        marks=[pytest.mark.in_turn(embedded=True)] if case.about == "broker" else [],
    )
    for case in collect()
    for client in CLIENTS.values()
    if case.about == client.about
]
"""Each case with the clients that it is for. What is about the broker, and not about a driver of
mqkit's, is held by two client libraries: on the RabbitMQs each case runs with one of them on the
one version and with the other on the other, as neighbours are dealt out; on the embedded broker,
and by `make conformance`, with both."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sessions(broker: Broker) -> AsyncIterator[dict[str, Session]]:
    """A connection of each client, shared by its cases"""
    target = target_of(broker)
    found = {client.label: Session(target, client.connect) for client in CLIENTS.values()}
    yield found
    for session in found.values():
        await session.close()


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(("client", "case"), PAIRS)
async def test_case(sessions: dict[str, Session], client: Client, case: Case) -> None:
    """What the case says holds, or is declared as lacking and does indeed not hold"""
    result = await run_case(sessions[client.label], client, case, check_lacks=True)
    assert result.verdict != "failed", f"{case.sentence}\n{result.error}"
