"""The fuzz in its short form: whatever messages and handlers are, each message ends once."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from typing import Any

import pytest

from mqkit.drivers.base import Driver
from tests.support import ROOT

pytestmark = pytest.mark.long

MESSAGES, SEED = 300, 9

LIMIT = 90.0
"""Seconds for one run."""

MUTANTS: tuple[str, ...] = ("acked-without-a-run", "two-dead-letters", "batches-forget-one")
"""Those that the suite has the time for; `python -m tests.faults.fuzz.mutation` plants all."""

if os.environ.get("MQKIT_TEST_LONG"):
    MUTANTS += (
        "last-resort-requeues",
        "last-resort-acks",
        "base-exceptions-rise",
        "unwritable-text",
        "ack-before-confirm",
        "slots-leak",
    )


async def fuzz(url: str, driver: str, *options: str) -> dict[str, Any]:
    """Run it in a process of its own, which an interrupt of a handler may end."""
    command = [sys.executable, "-m", "tests.faults.fuzz", "--url", url, "--driver", driver]
    command += ["--messages", str(MESSAGES), "--seed", str(SEED), "--json", *options]
    done = await asyncio.to_thread(
        subprocess.run,
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.stdout, f"it ended with {done.returncode}: {done.stderr[-2000:]}"
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.in_turn
async def test_every_message_ends_once(mqkit_vhost: str, driver: Driver) -> None:
    """Whatever it is and its handlers do, it ends once, within its runs; nothing is left over."""
    found = await fuzz(mqkit_vhost, driver.name)
    assert found["problems"] == []
    assert found["faults"] == []
    assert found["holds"]
    assert sum(found["ends"].values()) == MESSAGES


@pytest.mark.parametrize("mutant", MUTANTS)
async def test_a_broken_promise_is_found(mqkit_embedded: Any, mutant: str) -> None:
    """A last resort or a settling that is broken on purpose turns the fuzz red."""
    vhost = f"fuzz-{mutant}"
    url = mqkit_embedded.add_vhost(vhost)
    try:
        found = await fuzz(url, "pika", "--mutant", mutant, "--patience", "4")
    finally:
        mqkit_embedded.delete_vhost(vhost)
    assert not found["holds"], f"{mutant} was not seen"
    assert found["problems"] or found["faults"]
