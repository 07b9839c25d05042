"""`mqkit topology graph`, `export` and `permissions`: what services declare, for other tools."""

from __future__ import annotations

import asyncio
import json
import shlex
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mqkit.checks.names import check_name
from mqkit.cli.options import SvgOption
from mqkit.cli.topology.session import JsonOption, ServicesArgument, loaded, write_file
from mqkit.errors import OptionError
from mqkit.outcome import DELAY_LEVELS
from mqkit.pictures.graph import graph_mermaid, graph_svg
from mqkit.provisioning.definitions import definitions
from mqkit.provisioning.ladder import ladder_of
from mqkit.provisioning.permissions import Permissions, permissions_of
from mqkit.provisioning.picture import picture
from mqkit.provisioning.wanted import wanted_by


def _name(kind: str) -> Callable[[str | None], str | None]:
    """Make the `callback` of an option that names something, which is printed as it is."""

    def check(value: str | None) -> str | None:
        if value is not None:
            check_name(kind, value)
        return value

    return check


VhostOption = Annotated[
    str, typer.Option(help="The virtual host.", callback=_name("a virtual host"))
]

OutOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Write it there, and print nothing.", show_default=False),
]


class PictureFormat(StrEnum):
    """How a picture is written."""

    SVG = "svg"
    MERMAID = "mermaid"


def graph(
    services: ServicesArgument,
    format: Annotated[PictureFormat, typer.Option(help="svg or mermaid.")] = PictureFormat.MERMAID,  # noqa: A002
    out: OutOption = None,
    svg: SvgOption = None,
) -> None:
    """Draw what services declare: exchanges, queues, handlers, retries and dead letters.

    `--svg FILE` is short for `--format svg --out FILE`.

    Exit code 0: done; 1: the file could not be written; 2: called wrongly.
    """
    if svg is not None:
        if out is not None:
            raise OptionError("--svg FILE says where, too: leave out --out")
        format, out = PictureFormat.SVG, svg  # noqa: A001 - the option's name
    found = tuple(loaded(services))
    nodes, edges = picture(found, wanted_by(found))
    if format is PictureFormat.SVG:
        text = graph_svg(nodes, edges, title=", ".join(each.name for each in found))
    else:
        text = graph_mermaid(nodes, edges)
    write_file(out, text if text.endswith("\n") else text + "\n")


def export(
    services: ServicesArgument,
    vhost: VhostOption = "/",
    out: OutOption = None,
    *,
    ladder: Annotated[
        bool, typer.Option("--ladder", help="Also the delay ladder, with all of its levels.")
    ] = False,
) -> None:
    """Write what services declare as RabbitMQ's definitions, for `rabbitmqctl import_definitions`.

    There are no users and no permissions in it.

    Exit code 0: done; 1: the file could not be written; 2: called wrongly.
    """
    parts = asyncio.run(ladder_of(DELAY_LEVELS, DELAY_LEVELS)) if ladder else None
    found = definitions(wanted_by(loaded(services)), vhost, parts)
    write_file(out, json.dumps(found, indent=2) + "\n")


def permissions(
    services: ServicesArgument,
    user: Annotated[
        str | None,
        typer.Option(
            help="The user. Default: the service's name.",
            callback=_name("a user"),
            show_default=False,
        ),
    ] = None,
    vhost: VhostOption = "/",
    *,
    no_declare: Annotated[
        bool, typer.Option("--no-declare", help="For services that run with --no-declare.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Print the least permissions with which each service runs, as `rabbitmqctl set_permissions`.

    The three expressions are what it may configure, write and read.

    Exit code 0: done; 2: called wrongly.
    """
    found = [permissions_of(each, declares=not no_declare) for each in loaded(services)]
    if as_json:
        told = {"permissions": [_json(each, user, vhost) for each in found]}
        typer.echo(json.dumps(told, indent=2))
        return
    for each in found:
        for note in each.notes:
            typer.echo(f"mqkit: service {each.service}: {note}", err=True)
        typer.echo(_command(each, user or each.service, vhost))


def _json(found: Permissions, user: str | None, vhost: str) -> dict[str, object]:
    configure, write, read = found.expressions
    return {
        "service": found.service,
        "user": user or found.service,
        "vhost": vhost,
        "configure": configure,
        "write": write,
        "read": read,
        "notes": list(found.notes),
    }


def _command(found: Permissions, user: str, vhost: str) -> str:
    words = [shlex.quote(each) for each in (vhost, user, *found.expressions)]
    return "rabbitmqctl set_permissions --vhost {} {} \\\n    {} \\\n    {} \\\n    {}".format(
        *words
    )
