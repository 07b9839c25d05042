"""The ledger, read from its database."""

from __future__ import annotations

import logging
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import make_url

from handlers.accounting.database import database_url
from handlers.accounting.errors import LedgerError
from handlers.accounting.reading import open_ledger
from tests.unit.handlers.entries import entry, post, writing


async def test_balances_are_those_at_the_end_of_a_day(database: str) -> None:
    """What was posted for a later day is not in them; an account without an entry has zero."""
    async with writing(database) as connection:
        await post(connection, entry(1, "10.00", date=date(1993, 1, 1)))
        await post(connection, entry(2, "2.50", date=date(1993, 1, 2), direction="debit"))
        await post(connection, entry(3, "9.00", date=date(1993, 1, 3)))
    async with open_ledger(database) as ledger:
        found = await ledger.balances({7: date(1993, 1, 2), 8: date(1993, 1, 2)})
    assert found == {7: Decimal("7.50"), 8: Decimal("0.00")}


async def test_what_is_new_is_read_from_where_the_last_look_ended(database: str) -> None:
    """Each of the bank's ids comes once, in the order in which they were posted."""
    async with open_ledger(database) as ledger:
        assert await ledger.posted_after(0) == (0, [])
        async with writing(database) as connection:
            await post(connection, entry(5))
            await post(connection, entry(3))
        row, ids = await ledger.posted_after(0)
        assert ids == [5, 3]
        async with writing(database) as connection:
            await post(connection, entry(4))
        assert (await ledger.posted_after(row))[1] == [4]


async def test_its_file_is_its_owner_s_and_its_log_tells_nothing_of_what_is_in_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever the level of the root logger."""
    url = database_url(str(tmp_path / "l"))
    with caplog.at_level(logging.DEBUG):
        async with writing(url) as connection:
            await post(connection, entry(4711_0815))
            modes = {path.stat().st_mode & 0o777 for path in tmp_path.glob("l*")}
    assert modes == {0o600}
    assert "47110815" not in caplog.text


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    """Another file in its place is an error that names it, and stays as it was."""
    path = tmp_path / "notes.txt"
    path.write_text("not a database, and long enough to be sure of it" * 20)
    with pytest.raises(LedgerError, match=r"notes\.txt cannot be used"):
        async with open_ledger(database_url(str(path))):
            pass
    assert path.read_text().startswith("not a database")


@pytest.mark.parametrize("part", ["database", "password", "port"])
async def test_a_database_that_cannot_be_used_is_named_without_its_password(
    postgres: object, part: str
) -> None:
    """One that is not there, that refuses, or whose server is away, is an error that says why."""
    url = make_url(postgres.url)  # type: ignore[attr-defined]
    wrong = url.set(password="planted-secret" if part == "password" else url.password)
    if part != "password":
        wrong = url.set(database="nowhere") if part == "database" else url.set(port=1)
    text = wrong.render_as_string(hide_password=False)
    with pytest.raises(LedgerError, match=r"postgresql.*cannot be used: .") as caught:
        async with open_ledger(text):
            pass
    assert str(wrong.password) not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_path_is_that_of_an_sqlite_file_and_a_url_stays_as_it_is(tmp_path: Path) -> None:
    """Relative and absolute paths, with whatever characters, come back from their URLs."""
    for path in ("ledger.sqlite", str(tmp_path / "a b" / "50% é#.sqlite")):
        url = make_url(database_url(path))
        assert (url.drivername, url.database) == ("sqlite", path)
    assert database_url("postgresql://u:p%40@h/d") == "postgresql://u:p%40@h/d"
