"""`mqkit topology plan` and `apply`: what differs from a broker, and bringing it there."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from mqkit.cli.exit_codes import FAILED
from mqkit.cli.options import (
    DriverOption,
    ManagementOption,
    UrlOption,
    read_text,
    seconds_option,
)
from mqkit.cli.topology.session import (
    MAX_LINE,
    JsonOption,
    ServicesArgument,
    provisioner,
    write_file,
)
from mqkit.errors import TopologyError
from mqkit.logging.shown import shown
from mqkit.provisioning.apply import WAIT
from mqkit.provisioning.plan import Change, Kind, Plan, plan_from, staleness
from mqkit.provisioning.versions import Version, target_version

LadderOption = Annotated[
    bool,
    typer.Option(
        "--ladder",
        help="Also the delay ladder, and the exchange of `mqkit top`, for services that run with "
        "--no-declare.",
    ),
]


def plan(
    services: ServicesArgument,
    url: UrlOption = None,
    management: ManagementOption = None,
    driver: DriverOption = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Store the plan, for `apply --plan FILE`.", show_default=False
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            metavar="VERSION",
            help="Also say what this version of RabbitMQ refuses.",
            show_default=False,
        ),
    ] = None,
    *,
    ladder: LadderOption = False,
    check: Annotated[
        bool, typer.Option("--check", help="Exit with 1 where anything differs: for CI.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Say what differs between what services declare and the broker, and change nothing.

    A line for each difference: create, change (its messages have to be moved), drift (somebody has
    to decide), unused (declared no more). Nothing is printed where nothing differs; what could not
    be seen is said on standard error.

    Exit code 0: done, and with --check nothing differs; 1: it failed, or something differs;
    2: called wrongly.
    """
    version = None if target is None else target_version(target)
    found = asyncio.run(_plan(services, url, management, driver, version, ladder=ladder))
    if out is not None:
        write_file(out, json.dumps(found.to_json(), indent=2) + "\n")
    if as_json:
        typer.echo(json.dumps(found.to_json(), indent=2))
    else:
        _print(found.changes)
        for each in found.unseen:
            typer.echo(f"mqkit: not seen: {shown(each, MAX_LINE)}", err=True)
    if check and found.changes:
        sys.exit(FAILED)


async def _plan(
    services: Sequence[str],
    url: str | None,
    management: str | None,
    driver: str | None,
    target: Version | None,
    *,
    ladder: bool,
) -> Plan:
    async with provisioner(services, url, management, driver, ladder=ladder) as (provisioning, _):
        return await provisioning.plan(target)


def _print(changes: Iterable[Change]) -> None:
    for each in changes:
        typer.echo(shown(each, MAX_LINE))


def apply(
    services: ServicesArgument,
    url: UrlOption = None,
    management: ManagementOption = None,
    driver: DriverOption = None,
    stored: Annotated[
        Path | None,
        typer.Option(
            "--plan",
            metavar="FILE",
            help="Apply this plan, and nothing if the broker differs from it by now.",
            show_default=False,
        ),
    ] = None,
    wait: Annotated[
        float,
        typer.Option(
            help="Seconds to wait for services to let go of a queue that is moved.",
            callback=seconds_option(over=0),
        ),
    ] = WAIT,
    *,
    ladder: LadderOption = False,
    prune: Annotated[
        bool,
        typer.Option("--prune", help="Take away what is declared no more, if nothing is in it."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Bring the broker to what services declare, and lose no message.

    What is missing is declared. A queue that is to be declared anew has its messages moved, while
    it is published to. It can be interrupted at any point, and started again. What it leaves is
    printed as `plan` prints it.

    Exit code 0: nothing is left to do but what is unused; 1: it failed, or something is left;
    2: called wrongly.
    """
    before = None if stored is None else plan_from(read_text(stored, "--plan"))
    done: list[str] = []

    def tell(what: str) -> None:
        done.append(what)
        if not as_json:
            typer.echo(shown(what, MAX_LINE))

    left = asyncio.run(
        _apply(services, url, management, driver, before, tell, wait, prune=prune, ladder=ladder)
    )
    if as_json:
        kinds = [{"kind": e.kind.value, "what": e.what, "name": e.name} for e in left]
        typer.echo(json.dumps({"done": done, "left": kinds}, indent=2))
    elif left:
        typer.echo("left:")
        _print(left)
    if any(each.kind is not Kind.UNUSED for each in left):
        sys.exit(FAILED)


async def _apply(
    services: Sequence[str],
    url: str | None,
    management: str | None,
    driver: str | None,
    stored: Plan | None,
    tell: Callable[[str], None],
    wait: float,
    *,
    prune: bool,
    ladder: bool,
) -> tuple[Change, ...]:
    async with provisioner(services, url, management, driver, tell, wait, ladder=ladder) as (
        provisioning,
        _,
    ):
        now = await provisioning.plan()
        if stored is not None and (changed := staleness(stored, now)):
            raise TopologyError(
                "the broker has changed since the plan was made, and nothing was applied: "
                + "; ".join(changed)
            )
        return await provisioning.apply(now, prune=prune)
