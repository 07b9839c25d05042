"""The conformance suite, one test for each case and client, on the brokers that were found."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from mqkit.testing.broker import Broker
from mqkit.testing.conformance.clients import CLIENTS, Client
from mqkit.testing.conformance.env import Session
from mqkit.testing.conformance.runner import run_case
from mqkit.testing.conformance.suite import Case, collect
from mqkit.testing.conformance.targets import target_of

PAIRS = [
    pytest.param(client, case, id=f"{client.label}-{case.id}")
    for client in CLIENTS.values()
    for case in collect()
    if case.about == client.about
]


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
