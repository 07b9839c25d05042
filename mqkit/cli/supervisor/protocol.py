"""The lines that a supervisor and its worker processes write to each other.

They are joined by a socket. The supervisor writes the job, and later `STOP` and `HURRY`; the
process writes reports. Each is one line. The end of the socket says that the other side is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import TypeAdapter

from mqkit import drivers
from mqkit.cli.log_setup import LogOptions
from mqkit.cli.loop import check_loop
from mqkit.cli.options import broker_url, management_url
from mqkit.cli.supervisor.totals import Totals
from mqkit.middleware import Observer
from mqkit.observability.metrics.buckets import Buckets
from mqkit.observability.metrics.metrics import Metrics
from mqkit.observability.metrics.snapshot import Snapshot
from mqkit.registration.service import Service
from mqkit.runtime import Runtime

STOP = b"stop\n"
"""Drain, and end. Saying it twice is saying it once."""

HURRY = b"hurry\n"
"""End the grace period."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerJob:
    """Holds the options of `mqkit run` that concern the process which runs the service."""

    service: str
    """MODULE:SERVICE."""
    grace: float
    url: str | None = field(default=None, repr=False)
    """As it was given, password and all; None leaves it to the environment or the service."""
    connect_deadline: float | None = None
    driver: str | None = None
    management: str | None = field(default=None, repr=False)
    """The URL of the management API; None leaves it to the environment."""
    loop: str | None = None
    declare: bool = True
    """False: declare nothing, and only look whether it is there."""
    states: bool = True
    """Whether the process says how it is, for `mqkit top` and the console."""
    log: LogOptions = field(default_factory=LogOptions)
    counts_metrics: bool = False
    """Whether somebody scrapes them."""
    buckets: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Of histograms, as `Buckets` takes them; without it, its own."""
    number: int | None = None
    """Which of several processes it is, from 1; None if it is the only one."""

    def check(self) -> None:
        """Check what can be checked without the service.

        :raises ConfigurationError: it is not
        """
        if self.url is not None:
            broker_url(self.url)
        if self.driver is not None:
            drivers.named(self.driver)
        check_loop(self.loop)
        self.log.check()

    def metrics(self) -> Metrics | None:
        """Make what counts the service's metrics; None if nobody scrapes them."""
        return Metrics(buckets=Buckets(**self.buckets)) if self.counts_metrics else None

    def runtime(
        self,
        service: Service,
        *,
        observers: Sequence[Observer] = (),
        on_stop: Callable[[], None] = lambda: None,
    ) -> Runtime:
        """Make the runtime that runs the service as the options say.

        :raises ConfigurationError: there is no broker, or the service cannot be run
        """
        has_its_own = self.url is None and service.connection is not None
        return Runtime(
            service,
            None if has_its_own else broker_url(self.url),
            grace=self.grace,
            connect_deadline=self.connect_deadline,
            driver=None if self.driver is None else drivers.named(self.driver),
            observer=observers,
            on_stop=on_stop,
            declare=self.declare,
            states=self.states,
            # Of several processes the first one says what is wrong for all of them.
            management=self.management_url() if self.number in (None, 1) else None,
        )

    def management_url(self) -> str | None:
        """Return the option, or the environment's `MQKIT_MANAGEMENT`."""
        return management_url(self.management)


@dataclass(frozen=True, slots=True)
class Report:
    """Says how a process is; the first one says that it reads what it is told."""

    ready: bool
    """Whether it has consumed all its queues at once, or paused some of them."""
    totals: Totals
    problems: tuple[str, ...] = ()
    """What keeps it from consuming, a line each."""
    metrics: Snapshot | None = None
    """None if nobody scrapes them."""
    files: tuple[str, ...] = ()
    """In the first report: the files of the modules that it has imported."""


JOBS = TypeAdapter(WorkerJob)
REPORTS = TypeAdapter(Report)
