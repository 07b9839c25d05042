"""The package itself: what it offers, and what importing it costs others."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import mqkit

ROOT = Path(__file__).parent.parent.parent


def imported_for_types() -> dict[str, str]:
    """Name to module, from the block that only type checkers read."""
    tree = ast.parse((ROOT / "mqkit/__init__.py").read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    return {
        alias.name: str(node.module)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def test_every_public_name_is_there() -> None:
    """Type checkers and the running program find the same names in the same modules."""
    homes = imported_for_types()
    assert homes == mqkit._HOMES
    assert sorted([*homes, "__version__"]) == sorted(mqkit.__all__)
    assert set(mqkit.__all__) <= set(dir(mqkit))
    for name, home in homes.items():
        assert getattr(mqkit, name) is getattr(importlib.import_module(home), name)


def test_a_name_that_is_not_there_is_an_error() -> None:
    """As with any module: AttributeError, and ImportError from an import."""
    with pytest.raises(AttributeError, match="no attribute 'Servise'"):
        _ = mqkit.Servise
    with pytest.raises(ImportError, match="Servise"):
        exec("from mqkit import Servise", {})  # noqa: S102 - an import statement is what it is about


def test_the_pytest_plugin_is_cheap_to_load() -> None:
    """Every project that has mqkit installed pays for what its import imports."""
    code = (
        "import pytest, sys; before = set(sys.modules); import mqkit.testing.plugin; "
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True)
    loaded = done.stdout.decode().split()
    assert [name for name in loaded if name.startswith("mqkit")] == [
        "mqkit",
        "mqkit.testing",
        "mqkit.testing.plugin",
    ]
    assert len(loaded) < 10, loaded
