"""`mqkit top` on a terminal: what is on the screen, Ctrl-C, a broker that goes and comes back."""

from __future__ import annotations

import asyncio
import json
import os

import pytest

from mqkit.testing.brokers.broker import Broker
from mqkit.testing.brokers.embedded import EmbeddedBroker
from tests.forked import finished
from tests.integration.topology.support import api_of
from tests.simulated_states import simulated
from tests.terminal import ALTERNATE, CTRL_C, NORMAL, SHOW_CURSOR, Terminal, terminal

pytestmark = pytest.mark.in_turn(embedded=True)


@pytest.mark.parametrize(("columns", "rows"), [(80, 24), (200, 50)])
async def test_it_fills_a_terminal_and_ends_cleanly_on_ctrl_c(
    mqkit_vhost: str, columns: int, rows: int
) -> None:
    """The exit code is 0, and the terminal is as it was before."""
    async with simulated(mqkit_vhost, processes=10, queues=60, declare=True):
        lines = await asyncio.to_thread(_watched, mqkit_vhost, columns, rows)
    assert len(lines) == rows
    assert max(map(len, lines)) <= columns
    text = "\n".join(lines)
    for part in ("services: 5", "processes: 10", "of 60)", "simulated-0", "paused"):
        assert part in text


def _watched(url: str, columns: int, rows: int) -> list[str]:
    with terminal("top", "--every", "0.3", columns=columns, rows=rows, MQKIT_URL=url) as top:
        lines = top.shows("processes: 10")
        assert top.output.count(ALTERNATE) == 1
        top.type(CTRL_C)
        assert top.ends() == 0, top.output[-2000:]
        assert top.modes_now() == top.modes
        _is_restored(top)
    return lines


def _is_restored(top: Terminal) -> None:
    """Its own screen is left, the cursor is shown, and there is no traceback."""
    _, left, after = top.output.rpartition(NORMAL)
    assert left
    assert SHOW_CURSOR in top.output[-200:]
    assert "Traceback" not in top.output
    assert "Error" not in after


async def test_it_survives_a_restart_of_the_broker() -> None:
    """Meanwhile it says that it connects again, and that its figures are stale."""
    with (
        EmbeddedBroker() as broker,
        terminal("top", "--every", "0.2", MQKIT_URL=broker.url) as top,
    ):
        async with simulated(broker.url, processes=3, queues=6):
            await asyncio.to_thread(top.shows, "processes: 3")
        await asyncio.to_thread(broker.stop)
        await asyncio.to_thread(top.shows, "RECONNECTING: these figures are stale")
        lines = await asyncio.to_thread(top.shows, "not connected to the broker")
        assert any("processes: 3" in line for line in lines)
        await asyncio.to_thread(broker.start)
        async with simulated(broker.url, processes=4, queues=6):
            lines = await asyncio.to_thread(top.shows, "processes: 4", 40.0)
        assert not any("RECONNECTING" in line for line in lines)
        top.type(CTRL_C)
        assert await asyncio.to_thread(top.ends) == 0
        _is_restored(top)


async def test_ctrl_c_ends_it_while_it_connects() -> None:
    """Also where nobody listens: it waits for no deadline."""
    with terminal("top", "--url", "amqp://guest:guest@127.0.0.1:1/") as top:
        await asyncio.to_thread(top.shows, "connecting to 127.0.0.1:1")
        top.type(CTRL_C)
        assert await asyncio.to_thread(top.ends, 5.0) == 0
        assert "Traceback" not in top.output


def _finished(url: str, *arguments: str) -> tuple[int, str, str]:
    environment = {**os.environ, "MQKIT_URL": url, "NO_COLOR": "1"}
    process = finished(["top", *arguments], environment)
    return process.returncode, process.stdout, process.stderr


async def test_without_a_terminal_it_says_what_to_do() -> None:
    """And prints nothing else: exit code 2."""
    code, out, error = await asyncio.to_thread(_finished, "amqp://guest:guest@127.0.0.1:1/")
    assert (code, out) == (2, "")
    assert "--once" in error


async def test_once_prints_all_of_it(mqkit_vhost: str) -> None:
    """As text, or as one JSON object, without an escape in it."""
    async with simulated(mqkit_vhost, processes=10, queues=60):
        (code, text, _), (json_code, told, _) = await asyncio.gather(
            asyncio.to_thread(_finished, mqkit_vhost, "--once"),
            asyncio.to_thread(_finished, mqkit_vhost, "--json"),
        )
    assert (code, json_code) == (0, 0)
    assert "\x1b" not in text
    assert text.count("simulated.handle_") == 60
    found = json.loads(told)
    assert sum(len(each["processes"]) for each in found["services"]) == 10
    rates = [handler["rate"] for each in found["services"] for handler in each["handlers"]]
    assert min(rates) > 0


async def test_a_broker_that_is_away_is_an_error() -> None:
    """Exit code 1, within its deadline, and a line that says where nobody answers."""
    url = "amqp://guest:planted@127.0.0.1:1/"
    code, _, error = await asyncio.to_thread(_finished, url, "--once")
    assert code == 1
    assert "127.0.0.1:1" in error
    assert "planted" not in error


async def test_queues_of_rabbitmq_have_rates(rabbitmq: Broker, name: str) -> None:
    """By the management API, in a terminal."""
    management = api_of(rabbitmq)
    url = rabbitmq.add_vhost(name)
    try:
        async with simulated(url, processes=2, queues=4, declare=True, stem=name):
            text = await asyncio.to_thread(_with_management, url, management)
    finally:
        rabbitmq.ctl("delete_vhost", name)
    assert "no management API" not in text
    assert "classic" in text


def _with_management(url: str, management: str) -> str:
    with terminal(
        "top", "--every", "0.3", columns=200, rows=50, MQKIT_URL=url, MQKIT_MANAGEMENT=management
    ) as top:
        lines = top.shows("QUEUE (4)")
        top.type(CTRL_C)
        assert top.ends() == 0
    return "\n".join(lines)
