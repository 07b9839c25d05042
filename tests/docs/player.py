"""Plays a page: runs its blocks one after the other, as a reader would."""

from __future__ import annotations

from pathlib import Path

from tests.docs import data_files
from tests.docs.pages import Block, PageError
from tests.docs.project import Project
from tests.docs.python_page import PythonPage, compiles
from tests.docs.terminals import Terminals

NOT_RUN = {"text"}
"""Languages of blocks that are only read."""


def play(blocks: list[Block], home: Path) -> None:
    """Run a page's blocks in an empty folder below `home`.

    :raises PageError: a block is not what it says; whatever a block's Python raises comes as it is
    """
    with (
        Project(home, blocks) as project,
        PythonPage(project) as python,
        Terminals(project) as terminals,
    ):
        player = _Player(blocks, python, terminals, project)
        for block in blocks:
            player.play(block)
        player.finish()


class _Player:
    """Hands each block to who runs it."""

    def __init__(
        self, blocks: list[Block], python: PythonPage, terminals: Terminals, project: Project
    ) -> None:
        self._commands = [
            block.text for block in blocks if block.language == "console" and block.not_run is None
        ]
        self._python = python
        self._terminals = terminals
        self._project = project
        self._tests: dict[str, Block] = {}

    def play(self, block: Block) -> None:
        if block.not_run is not None:
            if block.language == "python":
                compiles(block)
        elif block.language == "python":
            self._play_python(block)
        elif block.language == "console":
            self._commands.pop(0)
            if "pytest" in block.text:
                self._tests.clear()
            self._terminals.run(block)
            self._terminals.check_last(block)
        elif block.language in data_files.PARSERS:
            data_files.parse(block)
            if block.title is not None:
                self._project.write(block.title, self._project.own(block.text), more=False)
        elif block.language not in NOT_RUN:
            known = sorted({"python", "console", *data_files.PARSERS, *NOT_RUN})
            raise PageError(
                f"{block.where}: no block is {block.language!r}; one of {', '.join(known)}"
            )

    def _play_python(self, block: Block) -> None:
        if block.title is None:
            self._python.run(block)
            return
        path = self._python.write(block)
        if path.name.startswith("test_"):
            self._tests[path.relative_to(self._project.folder).as_posix()] = block
        elif not self._is_run_later(path):
            self._python.load(path)

    def finish(self) -> None:
        """Run the tests that no command of the page has run."""
        if not self._tests:
            return
        names, block = " ".join(self._tests), next(iter(self._tests.values()))
        command = Block(block.where, block.line, "console", None, f"$ pytest -q {names}\n")
        self._terminals.run(command)
        self._terminals.check_last(command)

    def _is_run_later(self, path: Path) -> bool:
        name = path.relative_to(self._project.folder).as_posix()
        dotted = name.removesuffix(".py").replace("/", ".")
        return any(
            name in command or f"{dotted}:" in command or f"-m {dotted}" in command
            for command in self._commands
        )
