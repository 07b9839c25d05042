"""`mqkit run`: one service in this process, until SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from mqkit import drivers
from mqkit.cli.broker import check_broker_choice, embedded_broker
from mqkit.cli.options import FAILED, LOG_FORMAT, broker_url, load_service, log_level_number
from mqkit.runtime import DEFAULT_GRACE, Runtime

logger = logging.getLogger(__name__)


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
    grace: Annotated[
        float,
        typer.Option(help="Seconds that handlers get to finish on SIGTERM or SIGINT.", min=0),
    ] = DEFAULT_GRACE,
    connect_deadline: Annotated[
        float | None,
        typer.Option(
            help="Seconds in which the first connection must succeed. Default: try for ever.",
            min=0,
            show_default=False,
        ),
    ] = None,
    driver: Annotated[
        str | None,
        typer.Option(
            help=f"The AMQP client: {' or '.join(drivers.NAMES)}. Default: {drivers.DEFAULT}.",
            show_default=False,
        ),
    ] = None,
    log_level: Annotated[
        str, typer.Option(help="debug, info, warning, error or critical.")
    ] = "info",
) -> None:
    """Run a service until SIGTERM or SIGINT, then drain it.

    A second signal ends the grace period. Exit code 0: stopped, all that was in flight is
    settled; 1: it failed, or handlers outlasted the grace period; 2: it was called wrongly.
    """
    level = log_level_number(log_level)
    check_broker_choice(url, data, embedded=embedded)
    given = broker_url(url) if url is not None else None
    chosen = drivers.named(driver) if driver is not None else None
    loaded = load_service(service)
    if given is None and not embedded and loaded.connection is None:
        given = broker_url(None)
    logging.basicConfig(level=level, format=LOG_FORMAT, stream=sys.stderr)
    with contextlib.ExitStack() as stack:
        if embedded:
            given = stack.enter_context(embedded_broker(data))
        runtime = Runtime(
            loaded, given, grace=grace, connect_deadline=connect_deadline, driver=chosen
        )
        asyncio.run(_run_until_signal(runtime))


async def _run_until_signal(runtime: Runtime) -> None:
    stop = asyncio.Event()

    def on_signal(name: str) -> None:
        if stop.is_set():
            logger.warning("%s again: not waiting any longer", name)
            runtime.hurry()
        else:
            logger.info("%s: stopping", name)
            stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number.name)
    await runtime.run(stop)
    if runtime.abandoned:
        # A thread cannot be stopped, and a coroutine may refuse to be: neither the interpreter
        # nor the loop would end. Their messages are requeued and the connections closed.
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(FAILED)
