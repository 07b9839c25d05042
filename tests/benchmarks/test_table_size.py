"""The arithmetic of what is measured of the store's tables, and that it is measured."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from mqkit.store import Store
from tests.benchmarks.table_size import __main__ as command
from tests.benchmarks.table_size.measuring import Rates, rate, ratio
from tests.benchmarks.table_size.purging import percentile
from tests.postgres import PostgresServer


async def test_a_rate_counts_what_all_tasks_did() -> None:
    """None of what tasks do at the same time is lost, or counted twice."""
    done = 0

    async def step(_: Store) -> int:
        nonlocal done
        await asyncio.sleep(0)
        done += 3
        return 3

    counted, took = await rate(Store("sqlite:///never-opened"), step, 0.02)
    assert counted == done
    assert took >= 0.02


def test_rates_are_compared_round_by_round() -> None:
    """A round in which both were slow is no difference."""
    assert ratio(Rates([50.0, 5.0, 40.0]), Rates([100.0, 10.0, 80.0])) == 0.5


def test_a_percentile_of_nothing_is_0() -> None:
    """And the 99th of one value is the value."""
    assert [percentile([], 99), percentile([7.0], 99), percentile([1.0, 2.0], 50)] == [0, 7, 1]


OPTIONS = command.Options([30, 300], 30, "sqlite", 1, 0.01, 2, "")


async def test_days_pass_on_sqlite(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each purges a thirtieth of the rows, and fills it again."""
    await command.on_sqlite(tmp_path, OPTIONS)
    told = capsys.readouterr().out
    assert "claim of 20" in told
    assert "day 1: 10 purged" in told
    assert "day 2: 10 purged" in told


async def test_days_pass_on_postgresql(
    postgres: PostgresServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that is moved for the server, which the purge goes by."""
    monkeypatch.setattr(command, "SETTLE", 0.0)
    try:
        await command.on_postgres(postgres, OPTIONS)
    finally:
        for rows in OPTIONS.rows:
            postgres.drop_database(f"rows_{rows}")
    told = capsys.readouterr().out
    assert "outbox write" in told
    # One more where filling and measuring took a minute, and it is over meanwhile.
    assert "day 2: 10 purged" in told or "day 2: 11 purged" in told
