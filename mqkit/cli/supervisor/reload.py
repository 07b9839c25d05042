"""`mqkit run --reload`: runs a service in a process that is replaced when its code changes."""

from __future__ import annotations

import asyncio
import logging
import signal
import site
import sysconfig
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from watchfiles import PythonFilter, awatch

from mqkit.cli.supervisor.processes import Process, Processes
from mqkit.cli.supervisor.protocol import HURRY, WorkerJob
from mqkit.cli.supervisor.restarts import End
from mqkit.cli.supervisor.supervisor import OVERSTAY
from mqkit.errors import MqkitError

logger = logging.getLogger(__name__)

RELOAD_GRACE = 2.0
"""Seconds, at most, that handlers get to finish before the new code runs."""


_PACKAGES = frozenset({"site-packages", "dist-packages"})
"""Names of the folders that packages are installed in, another environment's on the path too."""


class WatchError(MqkitError):
    """The files cannot be watched; the message says why."""


class Reloader:
    """Runs a job in one process, which is replaced after a change. `run` is called once."""

    def __init__(self, job: WorkerJob, folder: Path) -> None:
        """Watch the folder, and the folders of modules from elsewhere that are not installed."""
        self._job = replace(job, grace=min(job.grace, RELOAD_GRACE))
        self._folder = folder
        self._roused = asyncio.Event()
        self._stopping = False
        self._process: Process | None = None
        self._watched: set[Path] = set()
        self._watching: list[asyncio.Task[None]] = []
        self._enough = asyncio.Event()
        self._failure: BaseException | None = None

    async def run(self) -> int:
        """Run the job until a signal; return the exit code of its last process.

        :raises WatchError: the files cannot be watched
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number.name)
        # It tells of each change, and those are told here.
        logging.getLogger("watchfiles").setLevel(logging.WARNING)
        self._watch({self._folder}, recursive=True)
        try:
            with Processes() as processes:
                end = await self._until_stopped(processes)
        finally:
            self._enough.set()
            await asyncio.wait(self._watching)
        if self._failure is not None:
            raise WatchError(f"cannot watch for changes: {self._failure}") from self._failure
        return end.exit_code

    async def _until_stopped(self, processes: Processes) -> End:
        while True:
            end = await self._live(processes)
            if not self._roused.is_set():
                logger.error("the process %s; waiting for a change", end.why)
                await self._roused.wait()
            if self._stopping:
                return end

    async def _live(self, processes: Processes) -> End:
        """Run one process until its end, a change or a signal."""
        self._roused.clear()
        process = await processes.start(self._job, apart=False, on_files=self._on_files)
        self._process = process
        ended = asyncio.create_task(process.end())
        roused = asyncio.create_task(self._roused.wait())
        await asyncio.wait([ended, roused], return_when=asyncio.FIRST_COMPLETED)
        roused.cancel()
        if not ended.done():
            process.stop()
            await asyncio.wait([ended], timeout=self._job.grace + OVERSTAY)
        if not ended.done():
            logger.critical("the process did not end in time: killing it (pid %d)", process.pid)
            process.kill()
        return await ended

    def _on_signal(self, name: str) -> None:
        if not self._stopping:
            logger.info("%s: stopping", name)
            self._stop()
        elif self._process is not None:
            logger.warning("%s again: not waiting any longer", name)
            self._process.tell(HURRY)

    def _stop(self) -> None:
        self._stopping = True
        self._roused.set()

    def _on_files(self, files: tuple[str, ...]) -> None:
        self._watch(folders_outside(files, self._folder), recursive=False)

    def _watch(self, folders: set[Path], *, recursive: bool) -> None:
        new = folders - self._watched
        if new:
            self._watched |= new
            task = asyncio.create_task(self._follow(new, recursive=recursive))
            task.add_done_callback(self._on_watched)
            self._watching.append(task)

    async def _follow(self, folders: Iterable[Path], *, recursive: bool) -> None:
        changes = awatch(
            *folders, watch_filter=PythonFilter(), stop_event=self._enough, recursive=recursive
        )
        async for changed in changes:
            names = ", ".join(sorted(path for _, path in changed))
            logger.warning("changed: %s", names)
            self._roused.set()

    def _on_watched(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failure = error
            self._stop()


def folders_outside(files: Iterable[str], folder: Path) -> set[Path]:
    """Return the folders of the Python files that are neither in the folder nor installed."""
    installed = {Path(name).resolve() for name in _installed()}
    found = {Path(name).resolve().parent for name in files if name.endswith(".py")}
    return {
        one
        for one in found
        if one.is_dir()
        and not {one, *one.parents} & {*installed, folder.resolve()}
        and _PACKAGES.isdisjoint(one.parts)
    }


def _installed() -> list[str]:
    paths = sysconfig.get_paths()
    return [
        *(paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")),
        *site.getsitepackages(),
        site.getusersitepackages(),
    ]
