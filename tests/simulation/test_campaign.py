"""Seeds that are played in a fork come to the same, and their files go with it."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from tests.simulation import campaign
from tests.simulation.simulated import storage

SEED = 0
"""Its plan has a store."""


def test_a_fork_plays_the_same_and_leaves_no_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is played apart is as it is here, but for the time it took."""
    storage.prepare()
    monkeypatch.setattr(storage, "_MEMORY", tmp_path)
    apart = campaign.play_apart(SEED, 1)
    assert apart.steps > 0
    assert replace(apart, took=0.0) == replace(campaign.play_seeds(SEED, 1), took=0.0)
    assert not [*tmp_path.iterdir()]


def test_a_fork_that_dies_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seeds of which nothing was heard are not taken for played."""
    monkeypatch.setattr(campaign, "_played", lambda *_: os._exit(3))
    with pytest.raises(ChildProcessError, match=f"from {SEED} on"):
        campaign.play_apart(SEED, 1)
