"""The ledger in its database: each entry once."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import pytest

from handlers.accounting.errors import ConflictError, LedgerError
from handlers.accounting.store import Ledger, Posted, open_ledger
from handlers.events import EntryRecorded
from tests.unit.handlers.entries import entry


async def test_an_entry_is_posted_once(tmp_path: Path) -> None:
    """The second time does nothing and says so; balances and both sides show one posting."""
    async with open_ledger(tmp_path / "l") as ledger:
        assert await ledger.post(entry(1, "700.10")) is Posted.NEW
        assert await ledger.post(entry(1, "700.10")) is Posted.ALREADY
        assert await ledger.post(entry(1, "700.10", source_line=9)) is Posted.ALREADY
        assert await ledger.balance(7) == Decimal("700.10")
        totals = await ledger.totals()
        assert (totals.debits, totals.credits, totals.balanced) == (
            Decimal("700.10"),
            Decimal("700.10"),
            True,
        )


async def test_its_file_is_its_owner_s_and_its_log_tells_nothing_of_what_is_in_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever the level of the root logger."""
    with caplog.at_level(logging.DEBUG):
        async with open_ledger(tmp_path / "l") as ledger:
            await ledger.post(entry(4711_0815))
            modes = {path.stat().st_mode & 0o777 for path in tmp_path.glob("l*")}
    assert modes == {0o600}
    assert "47110815" not in caplog.text


async def test_another_content_under_the_same_id_is_a_conflict(tmp_path: Path) -> None:
    """It is refused with the difference, and nothing changes."""
    async with open_ledger(tmp_path / "l") as ledger:
        await ledger.post(entry(1, "1.00"))
        with pytest.raises(ConflictError, match=r"amount is 1\.00 in the ledger and 2\.00 here"):
            await ledger.post(entry(1, "2.00"))
        assert await ledger.balance(7) == Decimal("1.00")


async def test_entries_at_the_same_time_are_each_posted_once(tmp_path: Path) -> None:
    """Many callers with overlapping entries: each id once, and each caller its own answer."""
    async with open_ledger(tmp_path / "l") as one, open_ledger(tmp_path / "l") as other:
        answers = await asyncio.gather(
            *(ledger.post(entry(n, "0.10")) for n in range(300) for ledger in (one, other, one)),
            one.post(entry(5, "9.00")),
            return_exceptions=True,
        )
        assert answers.count(Posted.NEW) == 300
        assert answers.count(Posted.ALREADY) == 600
        assert isinstance(answers[-1], ConflictError)
        assert await one.balance(7) == Decimal("30.00")


async def test_accounts_that_take_turns_share_commits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Callers that post one entry after the other are in every commit, whenever they began."""
    commits: list[int] = []
    post_together = Ledger._post_together

    async def counted(self: Ledger, entries: Sequence[EntryRecorded]) -> object:
        if not commits:
            late.set()
        commits.append(len(entries))
        return await post_together(self, entries)

    async def caller(ledger: Ledger, account: int, *, waits: bool) -> None:
        if waits:
            await late.wait()
        for number in range(20):
            await ledger.post(entry(account * 100 + number, account=account))
            await asyncio.sleep(0)  # as a message is settled before the next one

    late = asyncio.Event()
    monkeypatch.setattr(Ledger, "_post_together", counted)
    async with open_ledger(tmp_path / "l") as ledger:
        await asyncio.gather(*(caller(ledger, n, waits=n >= 5) for n in range(10)))
    assert sum(commits) == 200
    assert len(commits) <= 22


async def test_processes_share_the_file(tmp_path: Path) -> None:
    """Two processes that post the same entries at once post each once."""
    code = (
        "import asyncio, pathlib, sys\n"
        "from tests.unit.handlers.entries import entry\n"
        "from handlers.accounting.store import open_ledger\n"
        "async def main():\n"
        "    async with open_ledger(pathlib.Path(sys.argv[1])) as ledger:\n"
        "        await asyncio.gather(*(ledger.post(entry(n)) for n in range(200)))\n"
        "asyncio.run(main())\n"
    )
    processes = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", code, str(tmp_path / "l"))
        for _ in range(2)
    ]
    assert [await process.wait() for process in processes] == [0, 0]
    async with open_ledger(tmp_path / "l") as ledger:
        assert await ledger.balance(7) == Decimal("2000.00")


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    """Another file in its place is an error that names it, and stays as it was."""
    path = tmp_path / "notes.txt"
    path.write_text("not a database, and long enough to be sure of it" * 20)
    with pytest.raises(LedgerError, match=r"notes\.txt cannot be used"):
        async with open_ledger(path):
            pass
    assert path.read_text().startswith("not a database")
