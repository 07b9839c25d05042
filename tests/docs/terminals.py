"""Runs console blocks: commands that end, and those of a named terminal, which go on."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from tests.docs.pages import Block, PageError
from tests.docs.printed import end_of, is_shown, plain
from tests.docs.project import Project

WITHIN = 20.0
"""Seconds for what a page shows to be printed."""

LOOKS = "mqkit status "
"""A command that shows states, which a service writes two seconds after, and a reader later."""

WRITTEN = 5.0
"""Seconds until they are written."""

COMMAND = 60.0
"""Seconds for a command that ends."""

SHORT = 2.0
"""Seconds that a short command takes, such as `export`, after which a terminal is free."""

ENDING = 5.0
"""Seconds that what runs in the background has to end."""

_RUN = """. {state}
cd "$PWD"
(exit {before})
eval "$MQKIT_PAGE_COMMAND"
status=$?
unset MQKIT_PAGE_COMMAND
export -p > {state}
exit $status
"""


@dataclass(slots=True)
class Step:
    """A command and what is shown below it; without a command, what is printed next."""

    command: str | None
    shown: list[str] = field(default_factory=list)


def steps(text: str) -> Iterator[Step]:
    """Split a console block into its commands; `^C` is one."""
    step = Step(None)
    is_open = False
    for line in text.splitlines():
        if is_open and step.command is not None:
            step.command += "\n" + line.removeprefix("> ")
        elif line.startswith("$ ") or line.strip() == "^C":
            if step.command is not None or any(map(str.strip, step.shown)):
                yield step
            step = Step(line.removeprefix("$ ").strip())
        else:
            step.shown.append(line)
            continue
        is_open = line.endswith("\\")
    yield step


class Terminals:
    """The terminals of a page, by their titles; a context manager."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._state = project.folder.parent / "environment.sh"
        self._state.touch()
        self._last = 0
        """The exit code of the last command, for the next one's `$?`."""
        self._printed = ""
        self._background: dict[str, _Background] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        for each in self._background.values():
            each.end()

    def run(self, block: Block) -> None:
        """Run the commands of a block, and compare what they print."""
        for step in steps(self._project.own(block.text)):
            if block.title is None:
                self._run(step, block)
            else:
                self._run_in_background(step, block.title, block)

    def _run(self, step: Step, block: Block) -> None:
        if step.command is None or step.command == "^C":
            raise PageError(f"{block.where}: only a terminal with a title prints without a command")
        is_asked = step.command == "echo $?"
        if self._last and not is_asked:
            raise PageError(
                f"{block.where}: the command before `{step.command}` failed with {self._last}"
            )
        is_told = any(map(str.strip, step.shown))
        deadline = time.monotonic() + (WRITTEN if step.command.startswith(LOOKS) else 0)
        while True:
            done = self._once(step.command)
            if not is_told or is_shown(step.shown, done.stdout):
                break
            if time.monotonic() >= deadline:
                raise PageError(_difference(step, block, plain(done.stdout)))
        self._printed = done.stdout

    def _once(self, command: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            ["/bin/sh", "-c", self._script()],
            cwd=self._project.folder,
            env={**self._project.environment, "MQKIT_PAGE_COMMAND": command},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=COMMAND,
            check=False,
        )
        self._last = done.returncode
        return done

    def check_last(self, block: Block) -> None:
        """See to it that the last command of a block succeeded.

        :raises PageError: it failed, and the page does not say so
        """
        last, self._last = self._last, 0
        if last:
            raise PageError(
                f"{block.where}: its last command failed with {last}:\n{plain(self._printed)}"
            )

    def _run_in_background(self, step: Step, title: str, block: Block) -> None:
        terminal = self._background.get(title)
        if step.command == "^C":
            if terminal is None:
                raise PageError(f"{block.where}: nothing runs in {title}")
            terminal.interrupt()
        elif step.command is not None:
            if terminal is not None and not terminal.has_ended():
                raise PageError(f"{block.where}: {title} is busy; end what runs there by ^C")
            terminal = _Background(self._project, self._script(), step.command)
            self._background[title] = terminal
        elif terminal is None:
            raise PageError(f"{block.where}: nothing runs in {title}")
        printed = terminal.wait_for(step.shown)
        if printed is not None:
            raise PageError(_difference(step, block, printed))
        if step.command == "^C":
            terminal.end()

    def _script(self) -> str:
        return _RUN.format(state=shlex.quote(str(self._state)), before=self._last)


class _Background:
    """A command that goes on while the page does."""

    def __init__(self, project: Project, script: str, command: str) -> None:
        self._output = Path(project.folder.parent / f"terminal-{time.monotonic_ns()}")
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", script],
                cwd=project.folder,
                env={**project.environment, "MQKIT_PAGE_COMMAND": command},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._at = 0

    def wait_for(self, shown: list[str]) -> str | None:
        """Wait until it has printed what is shown next; return what it printed if it did not."""
        if not any(map(str.strip, shown)):
            return None
        deadline = time.monotonic() + WITHIN
        while True:
            ended = self._process.poll() is not None
            printed = plain(self._output.read_text())
            if (end := end_of(shown, printed[self._at :])) is not None:
                self._at += end
                return None
            if ended or time.monotonic() > deadline:
                return printed[self._at :]
            time.sleep(0.02)

    def has_ended(self) -> bool:
        """Wait a moment for it to end, as a short command does, and tell whether it has."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(SHORT)
        return self._process.poll() is not None

    def interrupt(self) -> None:
        """Send it what Ctrl-C sends."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGINT)

    def end(self) -> None:
        """Interrupt it, wait, and kill it if it has not ended by then."""
        self.interrupt()
        try:
            self._process.wait(ENDING)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


def _difference(step: Step, block: Block, printed: str) -> str:
    shown = "\n".join(step.shown).strip("\n")
    return (
        f"{block.where}: {step.command or 'the terminal'} printed\n{printed.strip()}\n"
        f"----- and the page shows\n{shown}"
    )
