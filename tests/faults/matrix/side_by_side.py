"""Runs jobs in several worker processes, each with a broker of its own."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable, Sequence

from tests.faults.matrix.figures import Figures
from tests.faults.matrix.worker import Job, work

JOIN = 60.0
"""Seconds for a worker to end its broker."""


class Jobs:
    """Hands out jobs; a worker gets those of its own broker first, which it need not start."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._left = list(jobs)
        self._lock = threading.Lock()

    def take(self, broker: str | None) -> Job | None:
        """The next job for a worker that has this broker; None when all are given out."""
        with self._lock:
            if not self._left:
                return None
            brokers = [job.broker for job in self._left]
            if broker not in brokers:
                # The one with the most left: the others may have workers already.
                broker = max(sorted(set(brokers)), key=brokers.count)
            return self._left.pop(brokers.index(broker))


def run_all(
    jobs: Sequence[Job], workers: int, on_result: Callable[[Figures], None]
) -> list[Figures]:
    """Run all jobs, so many at a time; the figures are in the order of the jobs."""
    waiting = Jobs(jobs)
    results: dict[Job, Figures] = {}
    context = multiprocessing.get_context("spawn")

    def drive(first: str | None) -> None:
        ours, theirs = context.Pipe()
        process = context.Process(target=work, args=(theirs,))
        process.start()
        theirs.close()
        broker = first
        try:
            while (job := waiting.take(broker)) is not None:
                broker = job.broker
                ours.send(job)
                results[job] = ours.recv()
                on_result(results[job])
            ours.send(None)
        except (EOFError, OSError):
            pass  # the worker has died; its job has no figures, which is told below
        finally:
            process.join(JOIN)
            process.kill()

    brokers = sorted({job.broker for job in jobs})
    threads = [
        threading.Thread(target=drive, args=(brokers[number % len(brokers)],))
        for number in range(min(workers, len(jobs)))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [results.get(job) or _no_figures(job) for job in jobs]


def _no_figures(job: Job) -> Figures:
    return Figures(job.row, "", job.broker, problems=["the process that ran it died"])
