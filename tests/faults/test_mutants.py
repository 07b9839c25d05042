"""The mutations of the fault matrix fit the code that they are to break."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.faults.matrix.mutants import MUTATIONS, Mutation
from tests.support import ROOT


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_mutation_fits_the_code(mutation: Mutation, tmp_path: Path) -> None:
    """Each edit finds its text exactly once, and leaves a module that compiles."""
    package = tmp_path / "mqkit"
    shutil.copytree(ROOT / "mqkit", package, ignore=shutil.ignore_patterns("__pycache__"))
    mutation.apply(package)
    for edit in mutation.edits:
        compile((package / edit.path).read_text(), edit.path, "exec")
