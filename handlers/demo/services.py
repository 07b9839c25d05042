"""The processes of the demo: the embedded broker, and each service in one of its own."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from handlers.running.processes import MqkitProcess
from mqkit import Queue, Service

SERVICES = ("orders", "risk", "ledger", "refunds", "billing", "notifications", "monitoring")

START_TIMEOUT = 60.0
"""Seconds for a process to start: it takes one, on a machine that has nothing else to do."""

_ADDRESS = re.compile(r"amqp://(?P<address>[^/\s]+)/")


@contextlib.asynccontextmanager
async def running_broker(
    folder: Path, port: int, tell: Callable[[str], None]
) -> AsyncIterator[str]:
    """Run the embedded broker, in memory, for the block, which is given its URL.

    :param port: 0 takes a free one
    :raises ProcessError: it did not start
    """
    log = folder / "broker.log"
    broker = MqkitProcess(
        "the broker", "broker", "--port", str(port), environment={}, log=log, tell=tell
    )
    await broker.start()
    try:
        said = await broker.said(_ADDRESS, within=START_TIMEOUT)
        yield f"amqp://guest:guest@{said['address']}/"
    finally:
        await broker.stop()


class Services:
    """The services' processes, each with a database and a log in the demo's folder.

    :param modules: what is run in the place of `handlers.NAME`, by the names of services
    """

    def __init__(
        self,
        url: str,
        databases: Mapping[str, str],
        folder: Path,
        tell: Callable[[str], None],
        modules: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.url = url
        """The broker's; it may hold a password."""
        self.databases = databases
        """The URL of each service's database."""
        self.folder = folder
        self._tell = tell
        variables = {f"{name.upper()}_DATABASE": at for name, at in databases.items()}
        self.environment = {
            **variables,
            "MQKIT_URL": url,
            "BILLING_STATEMENTS": str(folder / "statements"),
            # All orders come at once, and a slow machine takes its time: none is to be late.
            "ORDERS_PATIENCE": "600",
        }
        """What each of them is started with; it may hold passwords."""
        self.modules = {name: modules.get(name, f"handlers.{name}") for name in databases}
        """The module of each service."""
        self._processes = {
            name: MqkitProcess(
                name,
                *("run", f"{self.modules[name]}:service", "--log-level", "warning"),
                environment=self.environment,
                log=folder / f"{name}.log",
                tell=tell,
            )
            for name in databases
        }
        self.killed: list[str] = []
        """The names of those that were killed, in that order."""

    async def start(self) -> None:
        """Start all of them."""
        await asyncio.gather(*(process.start() for process in self._processes.values()))

    def check(self) -> None:
        """Check that all of them run.

        :raises ProcessError: one has ended
        """
        for process in self._processes.values():
            process.check()

    async def kill(self, name: str, when: str) -> None:
        """Kill a service (SIGKILL), and start it again."""
        await self._processes[name].kill()
        self.killed.append(name)
        self._tell(f"killed {name} (SIGKILL) {when}, and started it again")
        await self._processes[name].start()

    async def stop(self) -> None:
        """Let all of them drain, and wait for their end.

        :raises ProcessError: one did not end and was killed
        """
        stops = [process.stop() for process in self._processes.values()]
        ends = await asyncio.gather(*stops, return_exceptions=True)
        for end in ends:
            if isinstance(end, BaseException):
                raise end


def databases_in(folder: Path) -> dict[str, str]:
    """Return the URL of each service's database: a file of SQLite in the folder."""
    return {name: f"sqlite:///{(folder / name).absolute()}.sqlite" for name in SERVICES}


def queues_of(names: Sequence[str]) -> list[Queue]:
    """Return all queues that services have handlers for."""
    services: list[Service] = [
        importlib.import_module(f"handlers.{name}").service for name in names
    ]
    return [handler.queue for service in services for handler in service.handlers]
