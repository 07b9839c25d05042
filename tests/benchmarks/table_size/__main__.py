"""What the store's tables weigh, and how fast they are, small and large.

    nice -n 19 python -m tests.benchmarks.table_size --rows 10000,10000000 --database postgresql

Bytes are exact. Rates are of this machine: what counts is their ratio, as the small table and the
large one are measured in turn. `--days 10` then lets so many days pass on the large one: each is
filled with a thirtieth of its rows, and purged of what is over while messages come in. All of it is
removed in the end; ten million rows take some 10 GB meanwhile, with PostgreSQL's log.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from mqkit.clock import utc_now
from mqkit.errors import MqkitError
from mqkit.store import Store
from tests.benchmarks.table_size import filling, measuring
from tests.benchmarks.table_size.purging import Day, pass_day, percentile
from tests.postgres import PostgresServer, find_postgres, start

SERVER = {
    "shared_buffers": "1GB",
    "max_wal_size": "4GB",
    # So that it comes within what is a day here.
    "autovacuum_naptime": "5s",
}

SETTLE = 12.0
"""Seconds after a purge for autovacuum to come."""

_MOVED_CLOCK = (
    # Before the server's own now(), in every statement of whoever connects to this database.
    "CREATE OR REPLACE FUNCTION public.now() RETURNS timestamptz LANGUAGE sql STABLE AS "
    "$$ SELECT pg_catalog.now() + current_setting('bench.ahead')::interval $$"
)


@dataclass
class Options:
    """What to measure."""

    rows: list[int]
    outbox: int
    database: str
    rounds: int
    seconds: float
    days: int
    storage: str


def say(line: str) -> None:
    """Tell what was found, at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def on_postgres(server: PostgresServer, options: Options) -> None:
    """Measure on a server of one's own."""
    say(f"PostgreSQL {server.version}, {SERVER}")
    async with contextlib.AsyncExitStack() as stack:
        stores, urls = {}, {}
        for rows in options.rows:
            url = server.create_database(f"rows_{rows}").replace("+asyncpg", "")
            stores[rows] = await stack.enter_async_context(Store(url, relay=False))
            urls[rows] = url
            async with connected(url) as driver:
                if options.storage:
                    await driver.execute(f"ALTER TABLE mqkit_inbox SET ({options.storage})")
                began = time.monotonic()
                await filling.fill_inbox(driver, rows)
                outbox = min(rows, options.outbox)
                if outbox:
                    await filling.fill_outbox(driver, outbox)
                say(f"{rows:,} rows filled in {time.monotonic() - began:.0f} s")
                await driver.execute("VACUUM ANALYZE")
                await driver.execute("CHECKPOINT")
                tell_sizes(await measuring.postgres_sizes(driver), rows, outbox)
        if options.rounds:
            async with connected(urls[options.rows[0]]) as driver:

                async def wal() -> int:
                    query = "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint"
                    return int(await driver.fetchval(query))

                found = await measuring.compare(
                    stores, rounds=options.rounds, seconds=options.seconds, wal=wal
                )
            tell_rates(found)
    if options.days:
        await days_on_postgres(urls[options.rows[-1]], options.rows[-1], range(1, options.days + 1))


async def days_on_postgres(url: str, rows: int, days: range) -> None:
    """Let days pass on a server whose clock is moved for it."""
    name = url.rsplit("/", 1)[1]
    async with connected(url) as driver:
        await driver.execute(_MOVED_CLOCK)
        await driver.execute(f"ALTER DATABASE {name} SET search_path = public, pg_catalog")
    for day in days:
        async with connected(url) as driver:
            await driver.execute(f"ALTER DATABASE {name} SET bench.ahead = '{day} days'")

        async def refill() -> None:
            async with connected(url) as driver:
                many = rows // filling.DAYS
                await filling.fill_inbox(driver, many, first=filling.DAYS - 1, days=1)

        async def sizes() -> dict[str, int]:
            await asyncio.sleep(SETTLE)
            async with connected(url) as driver:
                while await driver.fetchval("SELECT count(*) FROM pg_stat_progress_vacuum"):
                    await asyncio.sleep(1)
                seen = await driver.fetchrow(
                    "SELECT n_dead_tup AS dead, autovacuum_count AS vacuums "
                    "FROM pg_stat_user_tables WHERE relname = 'mqkit_inbox'"
                )
                return await measuring.postgres_sizes(driver) | dict(seen)

        tell_day(day, await pass_day(url, refill, sizes))


async def on_sqlite(folder: Path, options: Options) -> None:
    """Measure on files of a folder."""
    say(f"SQLite {sqlite3.sqlite_version}")
    now = utc_now()
    async with contextlib.AsyncExitStack() as stack:
        stores, paths = {}, {}
        for rows in options.rows:
            path = folder / f"rows-{rows}.sqlite"
            stores[rows] = await stack.enter_async_context(Store(f"sqlite:///{path}", relay=False))
            began = time.monotonic()
            filling.fill_sqlite(str(path), rows, first=now)
            say(f"{rows:,} rows filled in {time.monotonic() - began:.0f} s")
            paths[rows] = path
            tell_sizes(sizes_of(path), rows, 0)
        if options.rounds:
            tell_rates(
                await measuring.compare(
                    stores, rounds=options.rounds, seconds=options.seconds, wal=None
                )
            )
    if options.days:
        await days_on_sqlite(paths[options.rows[-1]], options.rows[-1], options.days, now)


async def days_on_sqlite(path: Path, rows: int, days: int, began: datetime) -> None:
    """Let days pass by the clock that the store is given."""
    for day in range(1, days + 1):

        def now(day: int = day) -> datetime:
            return began + timedelta(days=day)

        async def refill(day: int = day) -> None:
            first = began + timedelta(days=day + filling.DAYS - 1)
            filling.fill_sqlite(str(path), rows // filling.DAYS, first=first, days=1)

        async def sizes() -> dict[str, int]:
            return sizes_of(path) | {"(file)": path.stat().st_size}

        tell_day(day, await pass_day(f"sqlite:///{path}", refill, sizes, now=now))


def sizes_of(path: Path) -> dict[str, int]:
    """Measure an SQLite file."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return measuring.sqlite_sizes(connection)


@contextlib.asynccontextmanager
async def connected(url: str) -> AsyncIterator[Any]:
    """Connect by asyncpg alone."""
    import asyncpg  # noqa: PLC0415 - an extra

    driver = await asyncpg.connect(url)
    try:
        yield driver
    finally:
        await driver.close()


def tell_sizes(sizes: Mapping[str, int], rows: int, outbox: int) -> None:
    """Tell bytes a row."""
    for name, size in sizes.items():
        many = outbox if "outbox" in name else rows
        if size > 100_000 and many:
            say(f"  {rows:>12,} rows  {name:<30} {size / many:8.1f} bytes a row")


def tell_rates(found: Mapping[str, Mapping[int, measuring.Rates]]) -> None:
    """Tell medians, and the large table's share of the small one's rate."""
    for name, by_rows in found.items():
        small = by_rows[min(by_rows)]
        for rows, rates in by_rows.items():
            say(
                f"  {name:<14} {rows:>12,} rows {statistics.median(rates.per_s):8.0f} a second "
                f"({min(rates.per_s):.0f} to {max(rates.per_s):.0f}), "
                f"{measuring.ratio(rates, small):.2f} of the small one's, "
                f"{statistics.median(rates.wal):6.0f} bytes of log a message"
            )


def tell_day(number: int, day: Day) -> None:
    """Tell what became of a day."""
    sizes = ", ".join(
        f"{name.removeprefix('ix_').removeprefix('mqkit_')} {size:,}"
        for name, size in day.sizes.items()
        if "outbox" not in name and "state" not in name
    )
    say(
        f"  day {number}: {day.purged:,} purged, {day.purged / day.seconds:,.0f} a second, longest "
        f"batch {day.longest:.0f} ms; claims p50/p99 "
        f"{percentile(day.calm, 50):.1f}/{percentile(day.calm, 99):.1f} ms before, "
        f"{percentile(day.beside, 50):.1f}/{percentile(day.beside, 99):.1f} beside; {sizes}"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Measure; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.table_size")
    parser.add_argument("--rows", default="10000,10000000", help="small and large, in one run")
    parser.add_argument("--outbox", type=int, default=3_000_000, help="rows of it at most")
    parser.add_argument("--database", choices=["postgresql", "sqlite"], default="postgresql")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each slice")
    parser.add_argument("--days", type=int, default=0)
    parser.add_argument("--storage", default="", help="storage parameters of the inbox, to try")
    given = parser.parse_args(argv)
    rows = sorted(int(part) for part in given.rows.split(","))
    options = Options(**(vars(given) | {"rows": rows}))
    try:
        if options.database == "sqlite":
            with tempfile.TemporaryDirectory(prefix="mqkit-rows-") as folder:
                asyncio.run(on_sqlite(Path(folder), options))
        else:
            with start(find_postgres(os.environ)) as server:
                asyncio.run(_set_up(server))
                if server.kind == "node":
                    server.stop()
                    server.start()
                asyncio.run(on_postgres(server, options))
    except MqkitError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


async def _set_up(server: PostgresServer) -> None:
    async with connected(server.url.replace("+asyncpg", "")) as driver:
        for name, value in SERVER.items():
            await driver.execute(f"ALTER SYSTEM SET {name} = '{value}'")


if __name__ == "__main__":
    sys.exit(main())
