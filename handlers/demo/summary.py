"""The command `python -m handlers summary`: what the monitoring service has seen."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from handlers.messages import MONITORING, AskSummary, Summary
from mqkit import ConfigurationError, Publisher
from mqkit.settings import Settings

TIMEOUT = 10.0
"""Seconds to wait for the answer."""

ALERTED = 1


def summary(
    url: Annotated[
        str | None,
        typer.Option(
            help="The broker of the services. Default: the environment's MQKIT_URL.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object instead of the tables.")
    ] = False,
) -> None:
    """Ask the monitoring service what it has seen: counts, sums and alerts.

    Exit code 0: there is no alert; 1: there is one, or nobody answers; 2: called wrongly.
    """
    setting = Settings().url
    if url is None and setting is None:
        raise ConfigurationError("which broker? Give --url, or set MQKIT_URL")
    said = asyncio.run(_ask(url or (setting.get_secret_value() if setting else "")))
    if as_json:
        typer.echo(said.model_dump_json())
    else:
        _print(said, Console())
    raise typer.Exit(ALERTED if said.alerts else 0)


async def _ask(url: str) -> Summary:
    async with Publisher(url) as publisher:
        route = MONITORING.key("monitoring.summary")
        said: Summary = await publisher.request(route, AskSummary(), Summary, timeout=TIMEOUT)
        return said


def _print(said: Summary, console: Console) -> None:
    table = Table("seen", "of which", "currency", title="Events", title_justify="left")
    table.add_column("number", justify="right")
    table.add_column("amount", justify="right")
    for each in said.counts:
        number, amount = f"{each.number:,}", f"{each.amount:,.2f}"
        table.add_row(each.kind, each.detail, each.currency, number, amount)
    console.print(table)
    for total in said.totals:
        sides = f"debits {total.debits:,.2f}, credits {total.credits:,.2f}"
        console.print(f"{total.currency}: {sides}, held {total.held:,.2f}", highlight=False)
    console.print(f"orders that something has still to come of: {said.unsettled:,}")
    console.print(f"alerts: {said.alerts:,}")
    for alert in said.latest_alerts:
        line = f"  {alert.invariant}: {alert.about}: {alert.what}"
        console.print(line, markup=False, highlight=False, soft_wrap=True)
