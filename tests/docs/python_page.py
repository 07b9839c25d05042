"""Runs the Python of a page: its blocks in one namespace, and the files that it names."""

from __future__ import annotations

import ast
import asyncio
import importlib
import inspect
import logging
import os
import sys
import types
from pathlib import Path
from typing import Any, Self

import pytest

from tests.docs.pages import Block, PageError
from tests.docs.project import Project

NAME = "page"
"""The module that a page's blocks run in: handlers are named after it."""


class PythonPage:
    """The namespace of a page, with an event loop for what awaits at its top; a context manager."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._module = types.ModuleType(NAME)
        self._patch = pytest.MonkeyPatch()
        self._loop = asyncio.Runner()
        self._environment: dict[str, str] = {}
        self._logging: tuple[Any, ...] = ()

    def __enter__(self) -> Self:
        self._patch.chdir(self._project.folder)
        self._patch.syspath_prepend(str(self._project.folder))
        self._patch.setattr(sys, "dont_write_bytecode", True)
        self._patch.setitem(sys.modules, NAME, self._module)
        # What a page sets up for its own process is undone in this one.
        self._environment = dict(os.environ)
        root = logging.getLogger()
        self._logging = root.level, list(root.handlers), list(root.filters)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._loop.close()
        self._forget()
        self._patch.undo()
        os.environ.clear()
        os.environ.update(self._environment)
        root = logging.getLogger()
        root.level, root.handlers[:], root.filters[:] = self._logging

    def run(self, block: Block) -> None:
        """Run a block after those that ran before it."""
        text = self._project.own(block.text)
        if _has_tests(text):
            raise PageError(
                f'{block.where}: tests need a file to be run from: title="test_something.py"'
            )
        self._execute(self._project.own(block.before), block, line=0)
        self._execute(text, block, line=block.line)

    def write(self, block: Block) -> Path:
        """Write the file that a block is."""
        assert block.title is not None
        name = block.title.removesuffix("(continued)").strip()
        more = name != block.title
        self._execute(self._project.own(block.before), block, line=0)
        return self._project.write(name, self._project.own(block.text), more=more)

    def load(self, path: Path) -> None:
        """Import a file of the page."""
        self._forget()
        importlib.invalidate_caches()
        name = ".".join(path.relative_to(self._project.folder).with_suffix("").parts)
        importlib.import_module(name.removesuffix(".__init__"))

    def _execute(self, text: str, block: Block, *, line: int) -> None:
        # Empty lines before it: a traceback names the line of the page.
        code = compile(
            "\n" * line + text,
            block.where.rpartition(":")[0],
            "exec",
            flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
            dont_inherit=True,
        )
        if code.co_flags & inspect.CO_COROUTINE:
            self._loop.run(eval(code, vars(self._module)))  # noqa: S307
        else:
            exec(code, vars(self._module))  # noqa: S102

    def _forget(self) -> None:
        """Forget the modules of the page's files, which may be written anew."""
        folder = str(self._project.folder)
        for name, module in list(sys.modules.items()):
            paths = [getattr(module, "__file__", None), *getattr(module, "__path__", ())]
            if any(str(path).startswith(folder) for path in paths):
                del sys.modules[name]


def compiles(block: Block) -> None:
    """Compile a block that is not run.

    :raises PageError: it is no Python
    """
    try:
        compile(block.text, block.where, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    except SyntaxError as error:
        raise PageError(f"{block.where}: no Python: {error}") from error


def _has_tests(text: str) -> bool:
    return any(
        isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
        for node in compile(
            text, NAME, "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        ).body
    )
