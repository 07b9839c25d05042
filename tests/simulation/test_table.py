"""A campaign that is kept in a file goes on where it ended."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.simulation.__main__ import main
from tests.simulation.campaign import Totals
from tests.simulation.table import Table, TableError, load


def _totals(**given: object) -> Totals:
    return Totals(schedules=1, seconds=2.0, took=0.5, messages=3, steps=4, **given)  # type: ignore[arg-type]


def test_a_table_comes_back_from_its_file_as_it_was(tmp_path: Path) -> None:
    """What is read is what was written: sums, faults and what they met, parts, what failed."""
    table = Table(10)
    table.add(10, 1, _totals(faults=Counter({"reset": 2}), met=Counter({("reset", "idle"): 1})))
    table.add(12, 1, _totals(failed={12: ["lost"]}))
    table.mended[11] = ["twice"]
    table.save(path := tmp_path / "table.json")
    assert load(path, 10) == table == load(path, None)
    assert load(tmp_path / "none.json", 10) is None


def test_parts_that_were_played_are_not_played_again() -> None:
    """What is left are the seeds between the parts and after them, whatever their order."""
    table = Table(0)
    for first in (40, 0, 120, 20):
        table.add(first, 20, Totals())
    assert table.played == {0: 60, 120: 20}
    assert table.left(0, 200) == [(60, 60), (140, 60)]
    assert table.left(0, 130) == [(60, 60)]
    assert table.left(0, 60) == []


def test_a_seed_that_no_longer_fails_is_told_as_mended() -> None:
    """Seeds that failed are played once more, and what they still fail of is kept."""
    table = Table(0, Totals(failed={3: ["lost"], 5: ["twice"]}))
    table.again(lambda seed: Totals(failed={5: ["late"]} if seed == 5 else {}))
    assert table.totals.failed == {5: ["late"]}
    assert table.mended == {3: ["lost"]}


def test_a_campaign_goes_on_from_its_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A second run plays what the first did not, and prints both together."""
    given = ["--first", "0", "--jobs", "1", "--table", str(tmp_path / "table.json")]
    assert main([*given, "--count", "2"]) == 0
    assert main([*given, "--count", "3"]) == 0
    assert "3 schedules from seed 0, 1 of them now" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"first": 1}', "\x00"])
def test_a_file_that_is_no_table_is_refused(tmp_path: Path, text: str) -> None:
    """What is no table is told with its name, and is not written over."""
    path = tmp_path / "table.json"
    path.write_text(text, "utf-8")
    with pytest.raises(TableError, match=r"table\.json is no table"):
        load(path, 0)
    assert path.read_text("utf-8") == text


def test_a_table_of_other_seeds_is_refused(tmp_path: Path) -> None:
    """Sums of one range of seeds do not get those of another."""
    Table(7).save(path := tmp_path / "table.json")
    with pytest.raises(TableError, match="begins with seed 7, not 8"):
        load(path, 8)
