"""How the replay divides a statement's rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from handlers.replay import ROWS_AHEAD, waves
from handlers.statement_file import Row


def row(line: int, account: int | None) -> Row:
    """A row of that account, or one that has none."""
    return Row(line, b"nonsense" if account is None else b"%d;%d;930101" % (line, account))


def accounts_of(wave: list[Row]) -> list[bytes]:
    """The accounts of a wave's rows, where they have one."""
    return [fields[1] for each in wave if len(fields := each.data.split(b";")) > 1]


@given(st.lists(st.none() | st.integers(0, 5), max_size=60))
def test_each_account_is_in_a_wave_once_and_in_its_order(accounts: list[int | None]) -> None:
    """All rows come, those of one account in the order of the file, each in a wave of its own."""
    rows = [row(line, account) for line, account in enumerate(accounts, 2)]
    found = list(waves(iter(rows)))
    assert all(found)
    assert sorted((each for wave in found for each in wave), key=lambda each: each.line) == rows
    lines: dict[bytes, list[int]] = defaultdict(list)
    for wave in found:
        assert len(set(accounts_of(wave))) == len(accounts_of(wave))
        for each in wave:
            if each.data != b"nonsense":
                lines[each.data.split(b";")[1]].append(each.line)
    assert all(each == sorted(each) for each in lines.values())


def test_rows_without_an_account_hold_up_nothing() -> None:
    """Any number of them, and one of an account, go in one wave."""
    rows = [row(2, 7), *(row(line, None) for line in range(3, 300))]
    assert [len(wave) for wave in waves(iter(rows))] == [298]


def test_a_file_is_not_read_whole() -> None:
    """Only so many rows are held, however much of the file is of one account."""
    read = 0

    def rows_of_one_account() -> Iterator[Row]:
        nonlocal read
        for line in range(2, 3 * ROWS_AHEAD):
            read += 1
            yield row(line, 7)

    some = waves(rows_of_one_account())
    assert [len(next(some)) for _ in range(10)] == [1] * 10
    assert read < ROWS_AHEAD + 10
