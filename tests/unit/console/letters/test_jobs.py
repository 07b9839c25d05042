"""Jobs in the background."""

from __future__ import annotations

import asyncio
import logging

import pytest

from mqkit.console.letters.jobs import MOST, Chosen, Job, JobRunningError, Jobs, Status, What
from mqkit.dead_letters import EVERYTHING, Moved, Replayed
from mqkit.errors import ConnectError


def chosen(queue: str = "a") -> Chosen:
    """All of a queue."""
    return Chosen(queue, EVERYTHING, "all dead letters")


async def nothing(_: Job) -> None:
    """Do nothing."""


async def forever(_: Job) -> None:
    """Go on."""
    await asyncio.Event().wait()


async def ended(job: Job) -> Job:
    """Wait for a job's end."""
    assert job.task is not None
    await asyncio.wait([job.task])
    return job


async def test_one_job_of_a_queue_runs_at_a_time() -> None:
    """Another queue's may run beside it; once it has ended, the next may begin."""
    jobs = Jobs(lambda _: None)
    first = jobs.start(What.REPLAY, chosen(), forever)
    with pytest.raises(JobRunningError, match="a replay of the dead letters of a is under way"):
        jobs.start(What.REHEARSE, chosen(), nothing)
    other = jobs.start(What.ARCHIVE, chosen("b"), forever)
    assert jobs.running("a") is first
    await jobs.stop(first)
    assert first.status is Status.STOPPED
    assert (await ended(jobs.start(What.REPLAY, chosen(), nothing))).status is Status.DONE
    await jobs.close()
    assert other.status is Status.STOPPED


async def test_a_job_that_ends_is_told_of_once() -> None:
    """However it ends, so that what is known of its queue is forgotten."""
    told: list[str] = []
    jobs = Jobs(lambda job: told.append(job.status))

    async def fail(_: Job) -> None:
        raise ConnectError("no broker")

    await ended(jobs.start(What.REPLAY, chosen(), nothing))
    failed = await ended(jobs.start(What.REPLAY, chosen(), fail))
    await jobs.stop(jobs.start(What.REPLAY, chosen(), forever))
    assert told == ["done", "failed", "stopped"]
    assert (failed.error, failed.is_running) == ("no broker", False)
    assert failed.ended_at is not None


async def test_an_error_that_is_not_mqkits_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The page of the job says that it failed, and nothing of what failed."""

    async def fail(_: Job) -> None:
        raise RuntimeError("planted")

    with caplog.at_level(logging.ERROR):
        job = await ended(Jobs(lambda _: None).start(What.ARCHIVE, chosen(), fail))
    assert "planted" not in str(job.error)
    assert "planted" in caplog.text


async def test_what_comes_of_it_is_seen_while_it_runs() -> None:
    """Both of a replay and of what is archived."""
    jobs = Jobs(lambda _: None)
    live = Replayed("run")
    gate = asyncio.Event()

    async def work(job: Job) -> None:
        job.watch(live)
        live.replayed = 3
        await gate.wait()
        live.stopped = "too many failed again"

    job = jobs.start(What.REPLAY, chosen(), work, why="because", meant=9)
    await asyncio.sleep(0)
    assert (job.done, job.meant) == (3, 9)
    before = job.stopped_because
    gate.set()
    await ended(job)
    assert [before, job.stopped_because] == [None, "too many failed again"]
    job.live = Moved("run", moved=7)
    assert job.done == 7


async def test_jobs_are_remembered_for_a_while() -> None:
    """The latest first; those that run are never forgotten."""
    jobs = Jobs(lambda _: None)
    running = jobs.start(What.REPLAY, chosen("running"), forever)
    for _ in range(MOST + 5):
        last = await ended(jobs.start(What.REHEARSE, chosen(), nothing))
        assert jobs.latest()[0] is last
    assert len(jobs.latest()) == MOST
    assert jobs.find(running.id) is running
    assert [each.id for each in jobs.latest("running")] == [running.id]
    assert jobs.find("none") is None
    await jobs.close()
