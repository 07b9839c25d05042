"""`mqkit run --processes N`: keeps processes running, and ends them all when it is told to.

The first process is started alone. If it cannot start, this is said once; and what it declares
and creates is there when the others come.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from dataclasses import dataclass, field, replace

from mqkit.cli.supervisor.processes import Process, Processes
from mqkit.cli.supervisor.protocol import HURRY, WorkerJob
from mqkit.cli.supervisor.restarts import LONGEST_WAIT, End, GiveUp, Restart, RestartPolicy
from mqkit.cli.supervisor.totals import Totals
from mqkit.cli.watchdog import AFTER_GRACE, ShutdownWatchdog
from mqkit.observability.http_server import HttpServer, Pages
from mqkit.observability.metrics.snapshot import Number, Snapshot, together

logger = logging.getLogger(__name__)

OVERSTAY = AFTER_GRACE + 0.2
"""Seconds after its grace period in which a process must have ended, or it is killed.

It ends itself before that, unless code in it holds the interpreter.
"""


LAST_WAIT = 0.2
"""Seconds after that in which this process has seen to it; its log may go where nobody reads."""


STANDS_STILL = 10.0
"""Seconds without a report, of which there is one a second, that say that a loop stands still."""


@dataclass(slots=True)
class Slot:
    """Holds one process, and the one that is started in its place when it has ended."""

    number: int
    policy: RestartPolicy = field(default_factory=RestartPolicy)
    process: Process | None = None
    restarts: int = 0
    doing: str = "not started yet"

    def __str__(self) -> str:
        what = self.doing
        if self.process is not None:
            state = "ready" if self.process.is_ready else "starting"
            in_flight = self.process.totals.in_flight
            what = f"{state}, pid {self.process.pid}, in flight: {in_flight}"
        return f"process {self.number}: {what}, restarts: {self.restarts}"


class Supervisor:
    """Runs a job in several processes at once. `run` is called once, on the main thread.

    :param listen: the host and port on which it answers for all of them (`HttpServer`)
    :param overstay: see `OVERSTAY`
    :raises HttpServerError: by `run`, if it cannot listen there
    """

    def __init__(
        self,
        job: WorkerJob,
        processes: int,
        *,
        listen: tuple[str, int] | None = None,
        overstay: float = OVERSTAY,
    ) -> None:
        self._listen = listen
        self._job = job
        self._overstay = overstay
        self._slots = [Slot(number) for number in range(1, processes + 1)]
        self._processes = Processes()
        self._one_is_ready = asyncio.Event()
        self._stopping = asyncio.Event()
        self._signalled = False
        self._hurried = False
        self._code = 0
        self._past = Totals()
        self._past_metrics = Snapshot()
        self._watchdog = ShutdownWatchdog(
            job.grace, after=overstay + LAST_WAIT, first=self._kill_now
        )

    @property
    def totals(self) -> Totals:
        """What all processes have done, those that have ended among them.

        What one that was killed had done since its last report, about a second, is not in it.
        """
        living = (slot.process.totals for slot in self._slots if slot.process is not None)
        restarts = sum(slot.restarts for slot in self._slots)
        return sum(living, self._past) + Totals(restarts=restarts)

    @property
    def metrics(self) -> Snapshot:
        """The metrics of all processes together.

        Of those that have ended there is what they had counted, and no gauge.
        """
        counted = together([self._past_metrics, *(each.metrics for each in self._living())])
        restarts = sum(slot.restarts for slot in self._slots)
        numbers = [
            Number("mqkit_process_restarts_total", (service,), restarts)
            for service in counted.services
        ]
        return together([counted, Snapshot(tuple(numbers))])

    @property
    def standing_still(self) -> tuple[str, ...]:
        """The processes whose event loops do not turn, as far as is known, a line each."""
        now = asyncio.get_running_loop().time()
        return tuple(
            f"process {slot.number}: it has reported nothing for {now - at:.0f} s"
            for slot in self._slots
            if slot.process is not None
            and (at := slot.process.reported_at) is not None
            and now - at > STANDS_STILL
        )

    @property
    def problems(self) -> tuple[str, ...]:
        """What keeps each process from consuming, a line each; () if all do."""
        lines = [*self.standing_still]
        for slot in self._slots:
            report = None if slot.process is None else slot.process.report
            if slot.process is None:
                lines.append(f"process {slot.number}: {slot.doing}")
            elif report is None:
                lines.append(f"process {slot.number}: starting")
            else:
                lines += (f"process {slot.number}: {each}" for each in report.problems)
        return tuple(lines)

    @property
    def states(self) -> list[str]:
        """What each process does now, in words."""
        return [str(slot) for slot in self._slots]

    async def run(self) -> int:
        """Keep the processes running until a signal; return the exit code when all have ended.

        That is the greatest of what they ended with, or that of the one that cannot start.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number.name)
        loop.add_signal_handler(signal.SIGUSR1, self.log_states)
        with self._processes, self._watchdog:
            async with self._answering(), asyncio.TaskGroup() as tasks:
                for slot in self._slots:
                    tasks.create_task(self._keep(slot), name=f"mqkit process {slot.number}")
        logger.info("stopped; in all: %s", self.totals)
        self._watchdog.end()
        return self._code

    def _answering(self) -> contextlib.AbstractAsyncContextManager[object]:
        if self._listen is None:
            return contextlib.nullcontext()
        from mqkit.observability.metrics.exposition import exposed  # noqa: PLC0415 - an extra

        pages = Pages(
            metrics=lambda accept: exposed(self.metrics, accept),
            alive=lambda: self.standing_still,
            ready=lambda: self.problems,
        )
        return HttpServer(pages, *self._listen)

    def stop(self) -> None:
        """Tell all of them to drain."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        self._one_is_ready.set()
        self._watchdog.begin()
        for process in self._living():
            process.stop()
        asyncio.get_running_loop().call_later(self._job.grace + self._overstay, self._kill)

    def hurry(self) -> None:
        """End their grace period."""
        self.stop()
        self._watchdog.begin(0.0)
        self._hurried = True
        for process in self._living():
            process.tell(HURRY)
        asyncio.get_running_loop().call_later(self._overstay, self._kill)

    def log_states(self) -> None:
        """Log how each process is, and the totals."""
        for state in self.states:
            logger.info("%s", state)
        logger.info("in all: %s", self.totals)

    def _on_signal(self, name: str) -> None:
        if self._signalled:
            self.hurry()
            logger.warning("%s again: not waiting any longer", name)
        else:
            self._signalled = True
            count = len(self._living())
            self.stop()
            logger.info("%s: stopping %d processes", name, count)

    def _living(self) -> list[Process]:
        return [slot.process for slot in self._slots if slot.process is not None]

    def _kill(self) -> None:
        for slot in self._slots:
            if slot.process is not None:
                logger.critical(
                    "process %d did not end in time: killing it (pid %d)",
                    slot.number,
                    slot.process.pid,
                )
                slot.process.kill()

    def _kill_now(self) -> None:
        """Kill all processes, from another thread than the loop's."""
        for process in self._living():
            process.kill()

    async def _keep(self, slot: Slot) -> None:
        """Start the process of this slot, again and again."""
        if slot is not self._slots[0]:
            slot.doing = "waiting for process 1 to be ready"
            await self._one_is_ready.wait()
        while not self._stopping.is_set():
            end = await self._live(slot)
            if self._stopping.is_set():
                self._code = max(self._code, end.exit_code)
                break
            match slot.policy.after(end, service_ran=self._one_is_ready.is_set()):
                case GiveUp(code):
                    self._give_up(slot, end, code)
                case Restart() as restart:
                    await self._wait(slot, end, restart)
        slot.doing = "ended"

    async def _live(self, slot: Slot) -> End:
        """Start its process, and wait for its end."""

        def on_ready() -> None:
            logger.info("process %d: ready", slot.number)
            self._one_is_ready.set()

        job = replace(self._job, number=slot.number)
        try:
            process = await self._processes.start(job, apart=True, on_ready=on_ready)
        except OSError as error:
            return End(None, problem=str(error))
        slot.process = process
        logger.info("process %d: started, pid %d", slot.number, process.pid)
        if self._stopping.is_set():
            process.stop()
        if self._hurried:
            process.tell(HURRY)
        end = await process.end()
        slot.process = None
        self._past += process.totals.at_rest()
        self._past_metrics = together([self._past_metrics, process.metrics.at_rest()])
        return end

    async def _wait(self, slot: Slot, end: End, restart: Restart) -> None:
        """Wait until the process is to be started again, or all are to stop."""
        logger.log(
            logging.CRITICAL if restart.loud else logging.ERROR,
            "process %d %s%s; starting it again in %.1f s%s",
            slot.number,
            end.why,
            "" if end.ready_for is not None else " before it was ready",
            restart.after,
            f" ({restart.failures} times in a row; it is tried every {LONGEST_WAIT:g} s at last)"
            if restart.loud
            else "",
        )
        slot.doing = f"waiting to be started again, for it {end.why}"
        try:
            async with asyncio.timeout(restart.after):
                await self._stopping.wait()
        except TimeoutError:
            slot.restarts += 1

    def _give_up(self, slot: Slot, end: End, code: int) -> None:
        logger.critical(
            "process %d %s before it was ready: the service cannot start, giving up",
            slot.number,
            end.why,
        )
        self._code = max(self._code, code)
        self.stop()
