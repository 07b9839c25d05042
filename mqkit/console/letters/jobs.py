"""Runs what takes long with dead letters in the background, one at a time of each queue."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from mqkit.clock import Clock, utc_now
from mqkit.dead_letters import Filter, Moved, Rehearsed, Replayed
from mqkit.errors import MqkitError
from mqkit.logging.error_reports import log_error

logger = logging.getLogger(__name__)

MOST = 50
"""Jobs that are remembered; those that have ended go first, the oldest of them."""

STOP_TIMEOUT = 6.0
"""Seconds that a job gets to give back what it holds, and to tell the audit."""


class What(StrEnum):
    """What a job does."""

    REHEARSE = "dry run"
    REPLAY = "replay"
    ARCHIVE = "archive"
    RESTORE = "restore"


class Status(StrEnum):
    """How far a job is."""

    RUNNING = "running"
    DONE = "done"
    STOPPED = "stopped"
    """It was stopped before its end, by a person or because the console ended."""
    FAILED = "failed"


class JobRunningError(MqkitError):
    """Another job is at work on the same dead letters; one at a time is."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which dead letters of which queue a job is about."""

    queue: str
    """The queue that they came from."""
    filter: Filter
    words: str
    """Says it on a page: `group 5f0c9a1e`."""


@dataclass(slots=True)
class Job:
    """Something that is done with dead letters, or was."""

    id: str
    what: What
    chosen: Chosen
    why: str
    began_at: datetime
    status: Status = Status.RUNNING
    ended_at: datetime | None = None
    meant: int | None = None
    """Dead letters that it is about, as far as that was known when it began."""
    rehearsed: Rehearsed | None = None
    live: Replayed | Moved | None = None
    """What came of it until now."""
    error: str | None = None
    task: asyncio.Task[None] | None = field(default=None, repr=False)

    def watch(self, live: Replayed | Moved) -> None:
        """Show what comes of it, which changes while it runs."""
        self.live = live

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self.status is Status.RUNNING

    @property
    def done(self) -> int:
        """How many dead letters it has moved."""
        match self.live:
            case Replayed(replayed=count) | Moved(moved=count):
                return count
        return 0

    @property
    def stopped_because(self) -> str | None:
        """Why a replay stopped by itself before its end."""
        return self.live.stopped if isinstance(self.live, Replayed) else None


Work = Callable[[Job], Awaitable[None]]


class Jobs:
    """The jobs of one console."""

    def __init__(self, ended: Callable[[Job], None], clock: Clock = utc_now) -> None:
        """Have no job yet.

        :param ended: is called after each
        """
        self._ended = ended
        self._clock = clock
        self._jobs: dict[str, Job] = {}

    def start(
        self, what: What, chosen: Chosen, work: Work, *, why: str = "", meant: int | None = None
    ) -> Job:
        """Begin a job in the background.

        :raises JobRunningError: another one is at work on the same dead letters
        """
        if (other := self.running(chosen.queue)) is not None:
            raise JobRunningError(
                f"a {other.what} of the dead letters of {chosen.queue} is under way; wait until it "
                "has ended, or stop it: nothing else was begun"
            )
        job = Job(secrets.token_hex(6), what, chosen, why, self._clock(), meant=meant)
        self._jobs[job.id] = job
        self._forget_the_oldest()
        job.task = asyncio.create_task(self._run(job, work))
        return job

    def find(self, job_id: str) -> Job | None:
        """Return a job; None where there is none, or it is forgotten."""
        return self._jobs.get(job_id)

    def running(self, queue: str) -> Job | None:
        """Return the job that is at work on the dead letters of a queue."""
        for job in self._jobs.values():
            if job.is_running and job.chosen.queue == queue:
                return job
        return None

    def latest(self, queue: str | None = None) -> list[Job]:
        """Return the jobs that are remembered, the latest first."""
        jobs = reversed(self._jobs.values())
        return [each for each in jobs if queue in (None, each.chosen.queue)]

    async def stop(self, job: Job) -> None:
        """Stop a job, and wait until it has given back what it holds."""
        if job.task is not None and not job.task.done():
            job.task.cancel()
            await asyncio.wait([job.task], timeout=STOP_TIMEOUT)
            if job.task.done() and job.is_running:  # stopped before its first step
                self._end(job, Status.STOPPED)

    async def close(self) -> None:
        """Stop all jobs; each ends like an interrupted command, and nothing is lost."""
        await asyncio.gather(*(self.stop(each) for each in self._jobs.values()))

    async def _run(self, job: Job, work: Work) -> None:
        try:
            await work(job)
        except asyncio.CancelledError:
            self._end(job, Status.STOPPED)
        except MqkitError as error:
            self._end(job, Status.FAILED, str(error))
        except Exception as error:  # noqa: BLE001 - a task's error would be seen by no one
            log_error(logger, logging.ERROR, "a %s failed", job.what, error=error)
            self._end(job, Status.FAILED, "it failed; the console's log says why")
        else:
            self._end(job, Status.DONE)

    def _end(self, job: Job, status: Status, error: str | None = None) -> None:
        job.status, job.error, job.ended_at = status, error, self._clock()
        self._ended(job)

    def _forget_the_oldest(self) -> None:
        ended = [each.id for each in self._jobs.values() if not each.is_running]
        for job_id in ended[: max(len(self._jobs) - MOST, 0)]:
            del self._jobs[job_id]
