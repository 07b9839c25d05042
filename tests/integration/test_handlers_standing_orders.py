"""Standing orders are placed from a bank's file, and each of them once."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from handlers import orders
from handlers.messages import PlaceOrder
from handlers.replay.standing_orders import place_orders
from handlers.replay.statement_file import StatementError
from mqkit import Publisher
from mqkit.testing.harness import Harness
from tests.forked import finished
from tests.support import eventually

pytestmark = pytest.mark.in_turn(embedded=True)

HEADER = '"order_id";"account_id";"bank_to";"account_to";"amount";"k_symbol"\n'
GOOD = '{number};2;"ST";"89597016";{number}.50;"SIPO"\n'


def written(path: Path, rows: list[str]) -> Path:
    """A file of standing orders with these rows."""
    path.write_text(HEADER + "".join(rows))
    return path


@pytest.fixture
async def h(
    mqkit_vhost: str,
    mqkit_harness: Callable[..., AbstractAsyncContextManager[Harness]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> AsyncIterator[Harness]:
    """The orders service."""
    monkeypatch.setenv("ORDERS_DATABASE", f"sqlite:///{tmp_path / 'orders.sqlite'}")
    async with mqkit_harness(orders.service, url=mqkit_vhost) as h:
        yield h


def placed(h: Harness) -> list[PlaceOrder]:
    """The orders that the service has handled."""
    return [each.body_as(PlaceOrder) for each in h.handled if each.queue == "orders.place"]


async def command(*arguments: str, url: str | None) -> subprocess.CompletedProcess[str]:
    """Run `python -m handlers orders` with these arguments."""
    words = ["orders", *arguments, *(["--url", url] if url else [])]
    return await asyncio.to_thread(finished, words, {"PATH": ""}, module="handlers")


async def test_good_rows_are_placed_and_bad_ones_are_told_by_their_line(
    h: Harness, mqkit_vhost: str, tmp_path: Path
) -> None:
    """A row that is none stops no other one; the same file again has no further effect."""
    rows = [GOOD.format(number=number) for number in range(1, 101)]
    rows[10] = "11;2;ST;89597016;-1;SIPO\n"
    rows[20] = "\n"
    rows[30] = '31;2;"";"89597016";1.00;\n'
    path = written(tmp_path / "o.csv", rows)
    told: list[str] = []
    async with Publisher(mqkit_vhost) as publisher:
        for _ in range(2):
            counts = await place_orders(path, publisher, told.append)
            assert (counts.placed, counts.bad, counts.failed) == (97, 3, 0)
            assert not counts.all_placed
    assert told[:3] == [
        "o.csv, line 12: amount '-1' is not an amount",
        "o.csv, line 22: 0 fields instead of 6",
        "o.csv, line 32: bank_to is empty",
    ]

    def accepted() -> int:
        return sum(each.routing_key == "order.accepted" for each in h.published)

    # Not `settled`: the checks that nobody takes here are tried again and again.
    await eventually(lambda: len(placed(h)) == 2 * 97 and accepted() == 97, 60)
    assert len({each.order_id for each in placed(h)}) == 97


async def test_the_command_says_what_was_placed(
    h: Harness, mqkit_vhost: str, tmp_path: Path
) -> None:
    """Exit code 0 where all rows were, 1 where one is none, and its line is on stderr."""
    good = written(tmp_path / "good.csv", [GOOD.format(number=n) for n in range(1, 6)])
    done = await command(str(good), url=mqkit_vhost)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("5 orders placed, 0 rows")
    bad = written(tmp_path / "bad.csv", [GOOD.format(number=6), "7;8\n"])
    done = await command(str(bad), "--json", url=mqkit_vhost)
    assert done.returncode == 1
    assert json.loads(done.stdout) == {"placed": 1, "bad": 1, "failed": 0}
    assert done.stderr == "bad.csv, line 3: 2 fields instead of 6\n"


async def test_what_cannot_be_placed_says_why(mqkit_vhost: str, tmp_path: Path) -> None:
    """No broker is said, no such file, another file, and nobody who takes orders."""
    path = written(tmp_path / "o.csv", [GOOD.format(number=1)])
    done = await command(str(path), url=None)
    assert (done.returncode, "which broker?" in done.stderr) == (2, True)
    done = await command(str(tmp_path / "none.csv"), url=mqkit_vhost)
    assert (done.returncode, "No such file" in done.stderr) == (1, True)
    done = await command(str(path), url=mqkit_vhost)
    assert (done.returncode, "no queue is bound" in done.stderr) == (1, True)
    async with Publisher(mqkit_vhost) as publisher:
        (tmp_path / "other.csv").write_text("a;b\n")
        with pytest.raises(StatementError, match="not a file of standing orders"):
            await place_orders(tmp_path / "other.csv", publisher, print)
