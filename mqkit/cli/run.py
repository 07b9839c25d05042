"""`mqkit run`: runs a service, in this process or in several, until SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from mqkit.checks.extras import needs_extra
from mqkit.cli.broker import check_broker_choice
from mqkit.cli.exit_codes import FAILED
from mqkit.cli.labels import finish_output
from mqkit.cli.log_setup import LogFormat, LogOptions
from mqkit.cli.loop import ASYNCIO, UVLOOP, runner, tune_collector
from mqkit.cli.options import (
    DriverOption,
    HttpOption,
    histogram_buckets,
    http_address,
    log_level_number,
    seconds_option,
)
from mqkit.cli.services import load_service
from mqkit.cli.supervisor.protocol import WorkerJob
from mqkit.cli.supervisor.supervisor import Supervisor
from mqkit.cli.watchdog import ShutdownWatchdog
from mqkit.errors import ConfigurationError
from mqkit.observability.health import problems_of
from mqkit.observability.http_server import HttpServer, Pages
from mqkit.observability.metrics.metrics import Metrics
from mqkit.runtime import DEFAULT_GRACE, Runtime
from mqkit.system.signals import STOPPING, on_signal

logger = logging.getLogger(__name__)

MAX_PROCESSES = 1000


def run(
    service: Annotated[str, typer.Argument(metavar="MODULE:SERVICE", show_default=False)],
    url: Annotated[
        str | None,
        typer.Option(
            help="The broker: amqp[s]://user:password@host[,host]/vhost. "
            "Default: the environment's MQKIT_URL, which other users cannot see. "
            "A service with a connection of its own takes none.",
            show_default=False,
        ),
    ] = None,
    embedded: Annotated[
        bool,
        typer.Option("--embedded", help="Run on a broker inside this process, without RabbitMQ."),
    ] = False,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="With --embedded: keep its durable queues in this directory.",
            show_default=False,
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            help="With --embedded: the port of 127.0.0.1 that it listens on, for `mqkit publish` "
            "and others. Default: a free one, which is logged.",
            min=1,
            max=65535,
            show_default=False,
        ),
    ] = None,
    grace: Annotated[
        float,
        typer.Option(
            help="Seconds that handlers get to finish on SIGTERM or SIGINT.",
            min=0,
            callback=seconds_option(),
        ),
    ] = DEFAULT_GRACE,
    connect_deadline: Annotated[
        float | None,
        typer.Option(
            help="Seconds, more than 0, after which the first connection is not tried again. "
            "Default: try for ever.",
            callback=seconds_option(over=0),
            show_default=False,
        ),
    ] = None,
    driver: DriverOption = None,
    management: Annotated[
        str | None,
        typer.Option(
            help="The broker's management API, http[s]://user:password@host:15672: say which "
            "policies break what mqkit promises, at the start and when one is set later. "
            "Default: the environment's "
            "MQKIT_MANAGEMENT; without either, nobody looks.",
            show_default=False,
        ),
    ] = None,
    loop: Annotated[
        str | None,
        typer.Option(
            help=f"The event loop: {UVLOOP} or {ASYNCIO}. Default: {UVLOOP} where it is installed.",
            show_default=False,
        ),
    ] = None,
    processes: Annotated[
        int,
        typer.Option(
            min=1,
            max=MAX_PROCESSES,
            metavar="N",
            help="Run it in so many processes, and start those again that end. SIGUSR1 logs how "
            "they are and what they have done.",
        ),
    ] = 1,
    no_declare: Annotated[
        bool,
        typer.Option(
            "--no-declare",
            help="Declare and bind nothing, and only look whether it is there: for a user who may "
            "configure nothing. `mqkit topology apply --ladder` puts it there.",
        ),
    ] = False,
    no_states: Annotated[
        bool,
        typer.Option(
            "--no-states",
            help="Do not say every two seconds how each process is, at exchange mqkit.states.v1: "
            "`mqkit top` and the console do not see it then.",
        ),
    ] = False,
    reload: Annotated[
        bool,
        typer.Option(
            "--reload",
            help="For development, never in production: start anew when a Python file changes.",
        ),
    ] = False,
    http: HttpOption = None,
    buckets: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=SECONDS,...",
            help="With --http: upper bounds of the buckets of a histogram, handler, queue or "
            "confirm: handler=0.01,0.1,1. Once for each of them.",
            show_default=False,
        ),
    ] = None,
    log_level: Annotated[
        str | None,
        typer.Option(help="debug, info, warning, error or critical. Default: info."),
    ] = None,
    log_format: Annotated[
        LogFormat | None,
        typer.Option(help="How the log is written; json is one object a line. Default: text."),
    ] = None,
    log_config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Set up logging as this file says, in place of the two above: .json or .toml for "
            "logging.config.dictConfig, any other for fileConfig.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Run a service until SIGTERM or SIGINT, then drain it.

    A second signal ends the grace period, and 5 s after it the process is gone. Exit code 0:
    stopped, all that was in flight is settled; 1: it failed, handlers outlasted the grace period,
    or something could not be closed; 2: it was called wrongly.
    """
    listen = http_address(http)
    job = WorkerJob(
        service=service,
        url=url,
        grace=grace,
        connect_deadline=connect_deadline,
        driver=driver,
        management=management,
        loop=loop,
        declare=not no_declare,
        states=not no_states,
        counts_metrics=listen is not None,
        buckets=histogram_buckets(buckets or []),
        log=LogOptions(
            level=None if log_level is None else log_level_number(log_level),
            format=log_format,
            config=None if log_config is None else str(log_config.absolute()),
        ),
    )
    check_broker_choice(url, data, port, embedded=embedded)
    if sys.platform == "win32":
        _check_for_windows(processes, reload=reload)
    if reload and processes > 1:
        raise ConfigurationError("--reload runs one process: give it without --processes")
    if listen is None and buckets:
        raise ConfigurationError("--buckets are those of --http: give both")
    if reload and listen is not None:
        raise ConfigurationError("--reload has no metrics: give it without --http")
    job.check()
    with contextlib.ExitStack() as stack:
        if reload or processes > 1:
            job.log.start("reload" if reload else "supervisor")
            if embedded:
                job = replace(job, url=stack.enter_context(_embedded_broker(data, port)))
            raise typer.Exit(_reload(job) if reload else _supervise(job, processes, listen))
        loaded = load_service(service)
        job.log.start(masks=loaded.error_reports.masker.masks)
        if embedded:
            job = replace(job, url=stack.enter_context(_embedded_broker(data, port)))
        watchdog = ShutdownWatchdog(grace)
        metrics = job.metrics()
        observers = () if metrics is None else (metrics,)
        runtime = job.runtime(loaded, observers=observers, on_stop=watchdog.begin)
        watchdog.doing = lambda: runtime.doing
        tune_collector()
        with job.log.ending(loaded.error_reports), runner(loop) as on_loop:
            on_loop.run(_run_until_signal(runtime, watchdog, _answering(listen, metrics)))


def _check_for_windows(processes: int, *, reload: bool) -> None:
    """Check that one process is asked for, and none that looks after others.

    :raises ConfigurationError: there is
    """
    if processes > 1:
        raise ConfigurationError(
            "--processes is not there on Windows: start `mqkit run` as often as there shall be "
            "processes"
        )
    if reload:
        raise ConfigurationError(
            "--reload is not there on Windows: start `mqkit run` again after a change"
        )


def _embedded_broker(data: Path | None, port: int | None) -> contextlib.AbstractContextManager[str]:
    from mqkit.cli.embedded_broker import embedded_broker  # noqa: PLC0415 - most services run without it

    return embedded_broker(data, port or 0)


def _supervise(job: WorkerJob, processes: int, listen: tuple[str, int] | None) -> int:
    return asyncio.run(Supervisor(job, processes, listen=listen).run())


def _reload(job: WorkerJob) -> int:
    with needs_extra("reload", "--reload", "watchfiles"):
        from mqkit.cli.supervisor.reload import Reloader  # noqa: PLC0415 - what it needs is an extra
    return asyncio.run(Reloader(job, Path.cwd()).run())


async def _run_until_signal(
    runtime: Runtime,
    watchdog: ShutdownWatchdog,
    beside: contextlib.AbstractAsyncContextManager[None],
) -> None:
    stop = asyncio.Event()

    def stopped_by(name: str) -> None:
        if stop.is_set():
            runtime.hurry()
            logger.warning("%s again: not waiting any longer", name)
        else:
            stop.set()
            logger.info("%s: stopping", name)

    for number in STOPPING:
        on_signal(number, stopped_by, number.name)
    with watchdog, ended_if_abandoned(runtime):
        async with beside:
            await runtime.run(stop)


@contextlib.asynccontextmanager
async def _answering(
    listen: tuple[str, int] | None, metrics: Metrics | None
) -> AsyncIterator[None]:
    """Answer for the service of this process during the block; nothing where there is no address.

    :raises HttpServerError: it cannot be listened on
    """
    if listen is None or metrics is None:
        yield
        return
    pages = Pages(
        metrics=metrics.text,
        alive=lambda: (),  # who answers turns
        ready=lambda: problems_of(metrics.reading),
    )
    async with HttpServer(pages, *listen):
        yield


@contextlib.contextmanager
def ended_if_abandoned(runtime: Runtime) -> Iterator[None]:
    """End this process after the block, inside of its loop, if it had to give up handlers.

    A thread cannot be stopped, and a coroutine may refuse to be: neither the interpreter nor the
    loop would end. Their messages are requeued and the connections closed.
    """
    try:
        yield
    except BaseException as error:
        if runtime.abandoned and not runtime.is_closed_badly:
            text, reports = "%s: it failed", runtime.service.error_reports
            reports.log(logger, logging.CRITICAL, text, runtime.service.name, error=error)
        raise
    finally:
        if runtime.abandoned:
            logging.shutdown()
            finish_output()
            os._exit(FAILED)
