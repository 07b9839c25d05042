"""Runs a service in a process of a supervisor: `python -m mqkit.cli.supervisor.worker SOCKET`.

The supervisor alone says when to hurry. SIGTERM drains, however often it comes, since whoever ends
a whole control group sends it to all processes, the supervisor among them; SIGINT does nothing,
since a terminal sends it to all, too. When the supervisor is gone, the process drains.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable

from mqkit.cli.exit_codes import FAILED
from mqkit.cli.labels import label_output
from mqkit.cli.loop import runner, tune_collector
from mqkit.cli.options import errors_as_exit_codes
from mqkit.cli.run import ended_if_abandoned
from mqkit.cli.services import load_service
from mqkit.cli.supervisor.protocol import HURRY, JOBS, REPORTS, Report, WorkerJob
from mqkit.cli.supervisor.totals import totals_of
from mqkit.cli.watchdog import ShutdownWatchdog
from mqkit.logging.error_reports import log_error
from mqkit.observability.health import problems_of
from mqkit.observability.metrics.metrics import Metrics
from mqkit.observability.states.tally import Tally
from mqkit.pause import Status
from mqkit.runtime import Runtime

logger = logging.getLogger(__name__)

REPORT_EVERY = 1.0
"""Seconds between two reports."""

LOOK_EVERY = 0.05
"""Seconds between two looks at whether it is ready."""

LAST_WORD = 1.0
"""Seconds that the last report may take to be written."""


def main() -> None:
    """Read the job from the socket, and run its service."""
    # A function, and not SIG_IGN: that would be inherited by what the handlers start.
    signal.signal(signal.SIGINT, lambda *_: None)
    link = socket.socket(fileno=int(sys.argv[1]))
    link.set_inheritable(False)
    with link.makefile("rb", buffering=0) as words:
        line = words.readline()
    if not line:
        sys.exit(FAILED)  # the supervisor is gone already
    with errors_as_exit_codes():
        _run(JOBS.validate_json(line), link)


def _run(job: WorkerJob, link: socket.socket) -> None:
    if job.number is not None and job.log.has_labels:
        label_output(f"process {job.number}")  # until its service is known
    watchdog = ShutdownWatchdog(job.grace, hurried_by=())
    watch_supervisor(link, watchdog.begin)
    service = load_service(job.service)
    label = None if job.number is None else f"{service.name}.{job.number}"
    job.log.start(label, service.error_reports.masker.masks)
    tally, metrics = Tally(), job.metrics()
    observers = [tally] if metrics is None else [tally, metrics]
    runtime = job.runtime(service, observers=observers, on_stop=watchdog.begin)
    watchdog.doing = lambda: runtime.doing
    tune_collector()
    with job.log.ending(service.error_reports), runner(job.loop) as on_loop:
        on_loop.run(Worker(runtime, tally, watchdog, metrics).run(link))


def watch_supervisor(link: socket.socket, on_gone: Callable[[], None]) -> None:
    """Call `on_gone`, from a thread, once the supervisor has ended: the loop may stand still."""
    poll = select.poll()
    poll.register(os.dup(link.fileno()), 0)  # no event but the end, of which it always tells

    def wait() -> None:
        poll.poll()
        on_gone()

    threading.Thread(target=wait, name="mqkit supervisor watch", daemon=True).start()


class Worker:
    """Runs a service until it is told to stop, and reports about once a second and at its end."""

    def __init__(
        self,
        runtime: Runtime,
        tally: Tally,
        watchdog: ShutdownWatchdog,
        metrics: Metrics | None = None,
    ) -> None:
        """Run nothing yet.

        :param metrics: observes the runtime, as the tally does; None if nobody scrapes them
        """
        self._metrics = metrics
        self._runtime = runtime
        self._watchdog = watchdog
        self._tally = tally
        self._stop = asyncio.Event()
        self._ready = False

    async def run(self, link: socket.socket) -> None:
        """Run the service until it has ended.

        :raises MqkitError: as `Runtime.run`
        """
        reader, writer = await asyncio.open_connection(sock=link)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._on_sigterm)
        files = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
        self._report(writer, tuple(name for name in files if isinstance(name, str)))
        beside = [
            asyncio.create_task(self._listen(reader), name="mqkit supervisor's word"),
            asyncio.create_task(self._keep_reporting(writer), name="mqkit reports"),
        ]
        for task in beside:
            task.add_done_callback(self._on_done)
        with self._watchdog, ended_if_abandoned(self._runtime):
            try:
                await self._runtime.run(self._stop)
            finally:
                for task in beside:
                    task.cancel()
                await asyncio.wait(beside)  # `_on_done` tells of their failures
                await self._say_last(writer)

    def _on_sigterm(self) -> None:
        if not self._stop.is_set():
            logger.info("SIGTERM: stopping")
            self._stop.set()

    def _on_done(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            text = "stopping, for the link to the supervisor failed"
            log_error(logger, logging.CRITICAL, text, error=error)
            self._stop.set()

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        try:
            while word := await reader.readline():
                self._stop.set()
                if word == HURRY:
                    self._watchdog.begin(0.0)
                    self._runtime.hurry()
        except ConnectionError as error:
            logger.debug("%s", error)
        logger.warning("the supervisor is gone: stopping")
        self._stop.set()

    async def _keep_reporting(self, writer: asyncio.StreamWriter) -> None:
        while not self._ready:
            await asyncio.sleep(LOOK_EVERY)
            states = self._runtime.states.values()
            self._ready = all(s.status in {Status.CONSUMING, Status.PAUSED} for s in states)
        while True:
            # What the supervisor has not read yet is not piled up: each report has it all.
            if not writer.transport.get_write_buffer_size():
                self._report(writer)
            await asyncio.sleep(REPORT_EVERY)

    def _report(self, writer: asyncio.StreamWriter, files: tuple[str, ...] = ()) -> None:
        totals = totals_of(self._tally, self._runtime.in_flight)
        if writer.is_closing():
            return  # the supervisor is gone; uvloop's transport would raise RuntimeError
        report = Report(
            ready=self._ready,
            totals=totals,
            problems=problems_of(self._runtime.reading()),
            metrics=None if self._metrics is None else self._metrics.snapshot(),
            files=files,
        )
        writer.write(REPORTS.dump_json(report) + b"\n")

    async def _say_last(self, writer: asyncio.StreamWriter) -> None:
        self._report(writer)
        writer.close()
        # If the supervisor is gone, or does not read, there is nobody to tell.
        with contextlib.suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(LAST_WORD):
                await writer.wait_closed()


if __name__ == "__main__":
    main()
