"""The command: watches a broker, and draws what there is again and again, or once."""

from __future__ import annotations

import asyncio
import logging
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live

from mqkit.cli.loop import runner, tune_collector
from mqkit.cli.options import (
    DriverOption,
    ManagementOption,
    UrlOption,
    broker_url,
    management_url,
    seconds_option,
)
from mqkit.cli.top.json_form import as_json
from mqkit.cli.top.screen import Staleness, printed, screen
from mqkit.clock import monotonic
from mqkit.errors import OptionError
from mqkit.observability.states.publishing import STATES_EVERY
from mqkit.overview.values import Overview
from mqkit.overview.watcher import Watcher
from mqkit.system.signals import STOPPING, on_signal

EVERY = 2.0
"""Seconds between two pictures."""

LISTENS = 2 * STATES_EVERY + 0.5
"""Seconds for which --once listens: each process says two things meanwhile, from which there are
rates."""


def top(
    url: UrlOption = None,
    management: ManagementOption = None,
    every: Annotated[
        float,
        typer.Option(
            help="Seconds, more than 0, between two pictures.", callback=seconds_option(over=0)
        ),
    ] = EVERY,
    driver: DriverOption = None,
    *,
    once: Annotated[
        bool, typer.Option("--once", help="Listen for some seconds, print all of it, and end.")
    ] = False,
    as_object: Annotated[
        bool, typer.Option("--json", help="As --once, but print one JSON object.")
    ] = False,
) -> None:
    """Show what all services on a broker do now: handlers, queues, outboxes, sagas, processes.

    It reads what processes say of themselves (`mqkit run` does so every two seconds), and changes
    nothing. With the management API it also knows rates of queues. Ctrl-C ends it.

    Exit code 0: done; 1: the broker could not be reached; 2: called wrongly.
    """
    broker, api = broker_url(url), management_url(management)
    console = Console(highlight=False)
    is_live = not (once or as_object)
    if is_live and (not console.is_terminal or console.is_dumb_terminal):
        raise OptionError("there is no terminal to draw on: say --once, or --json for a program")
    watcher = Watcher(broker, api, every=every, driver=driver)
    with runner(None) as on_loop:
        if is_live:
            tune_collector(holds_much=True)  # what processes said in the last minute
            on_loop.run(_live(watcher, console, every))
            return
        overview = on_loop.run(_once(watcher))
    if as_object:
        typer.echo(as_json(overview))
    else:
        printed(overview, console)


async def _once(watcher: Watcher) -> Overview:
    async with watcher:
        await asyncio.sleep(LISTENS)
        return await watcher.look()


async def _live(watcher: Watcher, console: Console, every: float) -> None:
    """Watch until a signal comes, also while it connects."""
    watching = asyncio.create_task(_watch(watcher, console, every))
    for number in STOPPING:
        on_signal(number, watching.cancel)
    console.print(f"connecting to {watcher.where}", markup=False)
    await asyncio.wait([watching])
    if not watching.cancelled():
        watching.result()


async def _watch(watcher: Watcher, console: Console, every: float) -> None:
    # What is logged would be drawn over; what is wrong now is among the problems.
    quiet = logging.NullHandler()
    logging.getLogger().addHandler(quiet)
    try:
        async with watcher:
            with Live(console=console, screen=True, auto_refresh=False) as live:
                await _draw(watcher, live, every)
    finally:
        logging.getLogger().removeHandler(quiet)


async def _draw(watcher: Watcher, live: Live, every: float) -> None:
    """Draw picture after picture until it is cancelled."""
    connected_at = monotonic()
    while True:
        stale = None
        if watcher.is_connected:
            connected_at = monotonic()
        else:
            stale = Staleness(monotonic() - connected_at)
        size = live.console.size
        live.update(screen(watcher.overview(), size.width, size.height, stale), refresh=True)
        await asyncio.sleep(every)
