"""A process that runs rows, one after the other, on a broker that it starts for them."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from mqkit.errors import ConnectError, MqkitError
from mqkit.settings import BrokerUrl
from mqkit.testing.brokers import probe
from mqkit.testing.brokers.containers import ContainerBroker, full_name
from tests.faults.matrix.execute import execute
from tests.faults.matrix.figures import Figures
from tests.faults.matrix.room import Rooms
from tests.faults.matrix.row import rows

ALIVE_WITHIN = 5.0
"""Seconds for a broker that hurt rows left behind to answer; else another one is started."""


@dataclass(frozen=True, slots=True)
class Job:
    """One row on one broker."""

    row: int
    broker: str
    """The version."""
    directory: Path
    """Where its journal and logs go."""
    short: bool
    faults: int | None


def image_of(broker: str) -> str:
    """The image of a version."""
    return full_name(f"{broker}-management")


class Worker:
    """Keeps its broker from job to job, as long as it is the same and well."""

    def __init__(self) -> None:
        self._rooms: Rooms | None = None

    def run(self, job: Job) -> Figures:
        """The figures of the job; whatever goes wrong is in them."""
        row = rows()[job.row]
        try:
            rooms = self._ready(job.broker)
            run = execute(row, rooms, job.directory, short=job.short, faults=job.faults)
            return asyncio.run(run)
        except MqkitError as error:
            return Figures(row.number, row.title, job.broker, problems=[str(error)])

    def close(self) -> None:
        """End the broker."""
        if self._rooms is not None:
            self._rooms.broker.close()
            self._rooms = None

    def _ready(self, label: str) -> Rooms:
        if self._rooms is not None and self._rooms.broker.label == label:
            with contextlib.suppress(ConnectError):
                url = BrokerUrl.parse(self._rooms.broker.url)
                probe.wait_until_ready(url, timeout=ALIVE_WITHIN)
                return self._rooms
        self.close()
        self._rooms = Rooms(ContainerBroker(image_of(label)))
        return self._rooms


def work(pipe: Connection) -> None:
    """Run the jobs that come until None does, and send the figures of each."""
    worker = Worker()
    try:
        while (job := pipe.recv()) is not None:
            pipe.send(worker.run(job))
    except (KeyboardInterrupt, EOFError):
        pass  # whoever waits for the figures has gone, too
    finally:
        worker.close()
