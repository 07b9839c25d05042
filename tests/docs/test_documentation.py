"""Every block of the documentation and of the README is run: see CONTRIBUTING.md."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.pages import read
from tests.docs.player import play
from tests.support import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

MOST_NOT_RUN = 10
"""Blocks of all pages that have a reason not to be run."""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_a_page_is_as_it_says(page: Path, tmp_path: Path) -> None:
    """What a page shows runs as it stands, and prints what the page says"""
    play(read(page, ROOT), tmp_path)


def test_few_blocks_are_not_run() -> None:
    """A block that is not run has a reason, and there are few of them"""
    blocks = [block for page in PAGES for block in read(page, ROOT)]
    not_run = [f"{block.where}: {block.not_run}" for block in blocks if block.not_run is not None]
    assert all(block.not_run != "" for block in blocks)
    assert len(not_run) <= MOST_NOT_RUN, "\n".join(not_run)
