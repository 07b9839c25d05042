"""Starts, controls and reaps the processes that run a service, each a new interpreter."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Self

from mqkit.cli.supervisor.protocol import JOBS, REPORTS, STOP, Report, WorkerJob
from mqkit.cli.supervisor.restarts import End
from mqkit.cli.supervisor.totals import Totals
from mqkit.logging.error_reports import log_error
from mqkit.observability.metrics.snapshot import Snapshot

logger = logging.getLogger(__name__)

LONGEST_LINE = 2**24
"""Bytes of a report; the names of all handlers and of all modules are in it."""

LAST_WORD = 1.0
"""Seconds to read what an ended process had written last. Its socket ends with it, unless it has
left it to a process of its own."""


class Process:
    """Controls one process, from its start until `end` returns."""

    def __init__(
        self,
        popen: subprocess.Popen[bytes],
        on_ready: Callable[[], None],
        on_files: Callable[[tuple[str, ...]], None],
    ) -> None:
        self.pid = popen.pid
        self.report: Report | None = None
        """Its latest; None until it hears what it is told."""
        self.reported_at: float | None = None
        """When that came, on the loop's clock."""
        self._popen = popen
        self._on_ready = on_ready
        self._on_files = on_files
        self._ready_at: float | None = None
        loop = asyncio.get_running_loop()
        self._now = loop.time
        self._ended: asyncio.Future[float] = loop.create_future()
        self._reading: asyncio.Task[None] | None = None
        self._writer: asyncio.StreamWriter | None = None

    @property
    def is_ready(self) -> bool:
        """Whether it consumes, or has consumed."""
        return self._ready_at is not None

    @property
    def totals(self) -> Totals:
        """What it has done, as of its latest report."""
        return Totals() if self.report is None else self.report.totals

    @property
    def metrics(self) -> Snapshot:
        """What it has counted, and how it is, as of its latest report."""
        return (self.report and self.report.metrics) or Snapshot()

    @property
    def is_alive(self) -> bool:
        """Whether its end has not been seen yet."""
        return not self._ended.done()

    async def begin(self, job: WorkerJob, link: socket.socket) -> None:
        """Send it its job."""
        reader, writer = await asyncio.open_connection(sock=link, limit=LONGEST_LINE)
        self._writer = writer
        self._reading = asyncio.create_task(self._read(reader), name=f"mqkit process {self.pid}")
        self._reading.add_done_callback(self._on_read)
        self.tell(JOBS.dump_json(job) + b"\n")

    def tell(self, words: bytes) -> None:
        """Write to it, if it still runs."""
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(words)

    def stop(self) -> None:
        """Tell it to drain, and end."""
        self.tell(STOP)
        if self.report is None:
            # It is importing the service, and may be long about it: SIGTERM ends it at once.
            self._popen.terminate()

    def kill(self) -> None:
        """Kill it by SIGKILL."""
        self._popen.kill()

    def poll(self) -> None:
        """Check whether it has ended."""
        if self._popen.poll() is not None and not self._ended.done():
            self._ended.set_result(self._now())

    async def end(self) -> End:
        """Wait for its end."""
        ended_at = await asyncio.shield(self._ended)
        if self._reading is not None:
            await asyncio.wait([self._reading], timeout=LAST_WORD)
            self._reading.cancel()
        if self._writer is not None:
            self._writer.close()
        ready_for = None if self._ready_at is None else ended_at - self._ready_at
        return End(self._popen.returncode, ready_for)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        # Where it died while a word of ours was on its way, the socket is reset.
        with contextlib.suppress(ConnectionError):
            # A line without its end was cut off by a SIGKILL.
            while (line := await reader.readline()).endswith(b"\n"):
                self._take(line)

    def _on_read(self, reading: asyncio.Task[None]) -> None:
        if not reading.cancelled() and (error := reading.exception()) is not None:
            text = "process %d: its reports cannot be read"
            log_error(logger, logging.CRITICAL, text, self.pid, error=error)

    def _take(self, line: bytes) -> None:
        try:
            report = REPORTS.validate_json(line)
        except ValueError as error:
            text = "process %d: its report cannot be read"
            log_error(logger, logging.ERROR, text, self.pid, error=error)
            return
        self.report, self.reported_at = report, self._now()
        if report.files:
            self._on_files(report.files)
        if report.ready and self._ready_at is None:
            self._ready_at = self._now()
            self._on_ready()


class Processes:
    """Starts processes, and reaps them while it is entered, on the main thread's loop."""

    def __init__(self) -> None:
        self._living: list[Process] = []

    def __enter__(self) -> Self:
        asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, self._reap)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        asyncio.get_running_loop().remove_signal_handler(signal.SIGCHLD)

    async def start(
        self,
        job: WorkerJob,
        *,
        apart: bool,
        on_ready: Callable[[], None] = lambda: None,
        on_files: Callable[[tuple[str, ...]], None] = lambda _: None,
    ) -> Process:
        """Start one; it drains by itself if this process ends.

        :param apart: in a session of its own, which the terminal's signals do not reach; without
            the terminal as its input
        :param on_ready: called once it is
        :param on_files: called with the files of what it has imported
        :raises OSError: the system has no room for it
        """
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                popen = _spawn(job, theirs, apart=apart)
            except OSError:
                ours.close()
                raise
        process = Process(popen, on_ready, on_files)
        self._living.append(process)
        await process.begin(job, ours)
        self._reap()
        return process

    def _reap(self) -> None:
        """Reap what has ended: a signal may stand for several, or come before `_living` has it."""
        for process in self._living:
            process.poll()
        self._living = [process for process in self._living if process.is_alive]


def _spawn(job: WorkerJob, link: socket.socket, *, apart: bool) -> subprocess.Popen[bytes]:
    # A new interpreter, never a fork: an event loop, threads and an embedded broker may be here.
    # Nothing secret is on its command line, whose end is for those who read a list of processes.
    return subprocess.Popen(
        [
            sys.executable,
            # As multiprocessing does it: there is no public way to pass on -O, -W, -X and others.
            *subprocess._args_from_interpreter_flags(),  # type: ignore[attr-defined]  # noqa: SLF001
            *("-m", "mqkit.cli.supervisor.worker", str(link.fileno()), job.service),
            *([] if job.number is None else [str(job.number)]),
        ],
        stdin=subprocess.DEVNULL if apart else None,
        pass_fds=[link.fileno()],
        start_new_session=apart,
    )
