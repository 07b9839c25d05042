"""The command `python -m handlers bank`."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from handlers.bank.books import Report
from handlers.bank.run import ORDERS_DONE, Bank
from handlers.demo.folder import fresh_folder
from handlers.demo.services import SERVICES, Services, databases_in, running_broker
from handlers.replay.replay import POSTED, PUBLISHED
from handlers.replay.standing_orders import read_orders
from handlers.replay.statement_file import Statement, open_statement
from handlers.running import loop
from handlers.running.progress import Progress
from mqkit import BrokerUrl, ConfigurationError
from mqkit.settings import Settings

FAILED = 1
DEFAULT_FOLDER = Path(".demo/bank")
PLACE = "{service}"

errors = Console(stderr=True)


def bank(
    file: Annotated[Path, typer.Argument(help="The statement, in the bank's own format.")],
    orders: Annotated[Path, typer.Argument(help="The standing orders, in the bank's own format.")],
    url: Annotated[
        str | None,
        typer.Option(
            help="The broker, on which nothing of an earlier run may be left. Default: MQKIT_URL, "
            "or else mqkit's embedded broker, started for this run.",
            show_default=False,
        ),
    ] = None,
    databases: Annotated[
        str | None,
        typer.Option(
            envvar="BANK_DATABASES",
            help=f"The URL of each service's database, which is there and empty, with {PLACE} for "
            "the service's name: by the variable, as other users see what is on a command line. "
            "Default: SQLite files in the folder.",
            show_default=False,
        ),
    ] = None,
    folder: Annotated[
        Path,
        typer.Option(metavar="DIR", help="Where to keep databases and logs; emptied at the start."),
    ] = DEFAULT_FOLDER,
    timeout: Annotated[
        float, typer.Option(help="Seconds without progress after which to give up.", min=1)
    ] = 60.0,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object instead of the table.")
    ] = False,
) -> None:
    """Post a statement, have all services pay the standing orders, and reconcile every account.

    Exit code 0: everything adds up; 1: it does not, or it failed; 2: called wrongly.
    """
    if databases is not None and PLACE not in databases:
        raise ConfigurationError(f"the databases' URL has no {PLACE}, by which each has its own")
    statement = open_statement(file)
    count = sum(order is not None for order in read_orders(orders, lambda _: None))
    totals = {PUBLISHED: statement.rows, POSTED: statement.rows, ORDERS_DONE: count}
    with fresh_folder(folder) as place, Progress(totals, errors) as progress:
        run = _run(statement, orders, url, databases, place, timeout, progress)
        report = loop.run(run)
    if as_json:
        typer.echo(json.dumps(report.as_json()))
    else:
        print_report(report, Console())
    raise typer.Exit(0 if report.adds_up else FAILED)


async def _run(
    statement: Statement,
    orders: Path,
    url: str | None,
    databases: str | None,
    folder: Path,
    timeout: float,  # noqa: ASYNC109 - of what the run waits for, not of this function
    progress: Progress,
) -> Report:
    at = databases_in(folder)
    if databases is not None:
        at = {name: databases.replace(PLACE, name) for name in SERVICES}
    async with _broker(url, folder, progress) as broker:
        services = Services(broker, at, folder, progress.tell)
        run = Bank(statement, orders, broker, services, timeout=timeout, progress=progress)
        return await run.run()


@asynccontextmanager
async def _broker(option: str | None, folder: Path, progress: Progress) -> AsyncIterator[str]:
    setting = Settings().url
    url = option or (setting and setting.get_secret_value())
    if url:
        BrokerUrl.parse(url)
        yield url
        return
    async with running_broker(folder, 0, progress.tell) as embedded:
        yield embedded


def print_report(report: Report, console: Console) -> None:
    """Print the table, and below it what is wrong, if anything is."""
    figures = report.as_json()
    before = figures["statement"]
    table = Table(title="The bank", show_header=False, title_justify="left")
    table.add_column()
    table.add_column(justify="right")
    for label, value in (
        ("rows of the statement", f"{before['rows']:,}"),
        ("accounts that agree to the last digit", f"{before['exact']:,}"),
        ("accounts that agree within the bank's rounding", f"{before['within_rounding']:,}"),
        ("accounts that do not agree", f"{before['off']:,}"),
        ("sum of balances before the orders", f"{report.statement.reconciliation.total:,.2f}"),
        ("orders", f"{report.placed:,}"),
        *((f"  {end}", f"{number:,}") for end, number in report.ends.items()),
        ("compensated", f"{report.compensated:,}"),
        ("paid", f"{report.paid:,.2f}"),
        ("sum of balances after the orders", f"{report.total:,.2f}"),
        ("orders a second", f"{figures['orders_per_second']:,.0f}"),
        ("broker", report.statement.broker),
    ):
        table.add_row(label, value)
    console.print(table)
    wrong = [*report.wrong, *(f"{n} dead letters of {name}" for name, n in report.dead.items())]
    if report.bad_rows:
        wrong.append(f"{report.bad_rows} rows are no orders")
    for line in wrong[:20]:
        console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)
    console.print("Everything adds up." if report.adds_up else "It does NOT add up.")
