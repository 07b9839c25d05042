"""The folder of a demo."""

from __future__ import annotations

from pathlib import Path

import pytest

from handlers.demo.folder import MARK, FolderError, fresh_folder


def test_what_an_earlier_demo_left_is_removed(tmp_path: Path) -> None:
    """Files and folders of a demo that has ended, or was killed, do not meet the next one's."""
    place = tmp_path / "demo"
    with fresh_folder(place):
        (place / "ledger.sqlite").write_text("old")
        (place / "statements").mkdir()
        (place / "statements" / "one.txt").write_text("old")
    with fresh_folder(place):
        assert [each.name for each in place.iterdir()] == [MARK]


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    """It is refused, and nothing in it is touched."""
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(FolderError, match=r"is not empty, and not a demo's.*--folder"):
        fresh_folder(tmp_path).__enter__()
    assert [each.name for each in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_folder_that_a_running_demo_has_is_refused(tmp_path: Path) -> None:
    """The second one says so, and the first one's files stay."""
    place = tmp_path / "demo"
    with fresh_folder(place):
        (place / "ledger.sqlite").write_text("in use")
        with pytest.raises(FolderError, match=r"another demo runs in .*--folder"):
            fresh_folder(place).__enter__()
        assert (place / "ledger.sqlite").read_text() == "in use"


def test_a_path_that_cannot_be_a_folder_is_refused(tmp_path: Path) -> None:
    """A file in its place is named."""
    (tmp_path / "file").write_text("")
    with pytest.raises(FolderError, match="file cannot be used"):
        fresh_folder(tmp_path / "file").__enter__()
