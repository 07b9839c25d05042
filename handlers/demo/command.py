"""The command `python -m handlers demo`."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from handlers.demo import plan as planner
from handlers.demo.folder import fresh_folder
from handlers.demo.killer import Killer
from handlers.demo.report import Report, print_report
from handlers.demo.run import ORDERS_DONE, REFUNDS_DONE, Demo, refunds_of
from handlers.demo.services import SERVICES, Services, databases_in, running_broker
from handlers.demo.watching import stay, watched
from handlers.running import loop
from handlers.running.progress import Progress

FAILED = 1
DEFAULT_FOLDER = Path(".demo/payments")
DEFAULT_KILLS = "ledger,orders"

errors = Console(stderr=True)


def demo(
    orders: Annotated[int, typer.Option(min=1, help="Orders to send.")] = planner.DEFAULT_ORDERS,
    accounts: Annotated[
        int, typer.Option(min=1, help="Accounts that they are of; ten at least.")
    ] = planner.DEFAULT_ACCOUNTS,
    seed: Annotated[int, typer.Option(help="The same seed gives the same orders.")] = (
        planner.DEFAULT_SEED
    ),
    kill: Annotated[
        str,
        typer.Option(
            metavar="NAMES",
            help="Services to kill (SIGKILL) on the way, after equal parts of the orders; '' for "
            f"none. They are {', '.join(SERVICES)}.",
        ),
    ] = DEFAULT_KILLS,
    folder: Annotated[
        Path,
        typer.Option(
            metavar="DIR",
            help="Where to keep databases, logs and statements; emptied at the start.",
        ),
    ] = DEFAULT_FOLDER,
    port: Annotated[
        int,
        typer.Option(min=0, max=65535, help="Of 127.0.0.1, for the broker; 0 takes a free one."),
    ] = 0,
    timeout: Annotated[
        float, typer.Option(help="Seconds without progress after which to give up.", min=1)
    ] = 60.0,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch",
            help="Open the console beside it. On a terminal it stays, with the services, until "
            "Ctrl-C; elsewhere it ends with the demo.",
        ),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object instead of the tables.")
    ] = False,
) -> None:
    """Run all services on generated orders and refunds, kill some of them, and add everything up.

    They run as processes of their own, on the embedded broker and SQLite. Exit code 0: everything
    adds up; 1: it does not, or it failed; 2: called wrongly.
    """
    names = [name.strip() for name in kill.split(",") if name.strip()]
    if unknown := [name for name in names if name not in SERVICES]:
        raise typer.BadParameter(
            f"{unknown[0]!r} is not one of {', '.join(SERVICES)}", param_hint="--kill"
        )
    try:
        plan = planner.make_plan(seed=seed, orders=orders, accounts=accounts)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    totals = {ORDERS_DONE: orders, REFUNDS_DONE: refunds_of(plan)}

    async def run(place: Path, progress: Progress) -> Report:
        async with running_broker(place, port, progress.tell) as url:
            services = Services(url, databases_in(place), place, progress.tell)
            killer = Killer(services, names, orders)
            run = Demo(plan, url, services, trouble=killer, timeout=timeout, progress=progress)
            console = watched(services, progress.tell) if watch else contextlib.nullcontext()
            async with console:
                report = await run.run()
                progress.stop()
                _say(report, as_json=as_json)
                if watch and errors.is_terminal and sys.stdin.isatty():
                    await stay(services, progress.tell)
                return report

    with fresh_folder(folder) as place, Progress(totals, errors) as progress:
        report = loop.run(run(place, progress))
    raise typer.Exit(0 if report.adds_up else FAILED)


def _say(report: Report, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(report.as_json()))
    else:
        print_report(report, Console())
