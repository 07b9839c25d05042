"""`mqkit delays verify`: looks after the delay ladder of a broker."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import asdict
from typing import Annotated

import typer

from mqkit.cli.exit_codes import FAILED
from mqkit.cli.options import DriverOption, ManagementOption, UrlOption, broker_url
from mqkit.cli.topology.session import (
    MAX_LINE,
    JsonOption,
    connected,
    management_api,
)
from mqkit.logging.shown import shown
from mqkit.outcome import DELAY_LEVELS
from mqkit.provisioning.ladder import declare_ladder, declare_later
from mqkit.provisioning.verify import LadderReport, verify_by_amqp, verify_by_management

app = typer.Typer(help="Look after the delay ladder.", no_args_is_help=True)


@app.callback()
def _commands() -> None:
    """Look after the delay ladder, in which retries wait and what is published later."""


@app.command()
def verify(
    url: UrlOption = None,
    management: ManagementOption = None,
    driver: DriverOption = None,
    levels: Annotated[
        int,
        typer.Option(help="How many levels there must be at least.", min=0, max=DELAY_LEVELS),
    ] = 0,
    *,
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Declare and bind what is missing, and look again."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Say whether the delay ladder is whole, and which messages are stuck in it.

    Each level up to the highest that is there is looked for: its exchange, its queue, their
    arguments, what they are bound to, and policies that break them. Levels are declared when a
    delay first needs them; so that there are none is no problem.

    Exit code 0: nothing is wrong; 1: something is, or it failed; 2: called wrongly.
    """
    found = asyncio.run(_verify(url, management, driver, levels, repair=repair))
    if as_json:
        typer.echo(json.dumps(asdict(found), indent=2))
    else:
        waiting = sum(found.messages.values())
        typer.echo(f"{found.levels} levels, and {found.later_levels} for what is published later")
        typer.echo(f"{waiting} messages wait")
        for each in found.problems:
            typer.echo(shown(each, MAX_LINE))
        for each in found.unseen:
            typer.echo(f"mqkit: not seen: {each} (give --management)", err=True)
    if found.problems:
        sys.exit(FAILED)


async def _verify(
    url: str | None, management: str | None, driver: str | None, levels: int, *, repair: bool
) -> LadderReport:
    broker = broker_url(url)
    api = management_api(management, broker)
    async with connected(broker, driver) as connection:

        async def look() -> LadderReport:
            if api is not None:
                return await verify_by_management(api, levels)
            return await verify_by_amqp(connection.channel, levels)

        found = await look()
        if repair:
            channel = await connection.channel()
            await declare_ladder(channel, found.levels)
            if found.later_levels:
                await declare_later(channel, found.later_levels)
            await channel.close()
            found = await look()
        return found
