"""`mqkit asyncapi`: describes services in AsyncAPI 3, and tells breaking changes."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from mqkit.asyncapi import AsyncapiError, Reader, differences, page, read
from mqkit.asyncapi import describe as describe_services
from mqkit.cli.exit_codes import FAILED
from mqkit.cli.options import write_text
from mqkit.cli.services import load_service
from mqkit.logging.shown import shown
from mqkit.settings import BrokerUrl

_DESCRIBE = "describe"


class _Group(TyperGroup):
    """A group whose first argument may be a service: that is described."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put in the command that is left out."""
        if args and args[0] not in (*self.commands, "--help", "-h"):
            args = [_DESCRIBE, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_Group,
    help="Describe services in AsyncAPI 3: mqkit asyncapi MODULE:SERVICE...",
    no_args_is_help=True,
)

ServicesArgument = Annotated[
    list[str], typer.Argument(metavar="MODULE:SERVICE...", show_default=False)
]
TitleOption = Annotated[
    str | None,
    typer.Option(help="Of the document. Default: the services' names.", show_default=False),
]
VersionOption = Annotated[str, typer.Option("--api-version", help="Of what is described.")]


@app.command(_DESCRIBE)
def describe(
    services: ServicesArgument,
    *,
    title: TitleOption = None,
    version: VersionOption = "0.0.0",
    url: Annotated[
        str | None,
        typer.Option(
            help="The broker to name; its user and its password are left out.", show_default=False
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Write the document there, and not to the terminal.", show_default=False),
    ] = None,
    html: Annotated[
        Path | None, typer.Option(help="Write a page for people there.", show_default=False)
    ] = None,
) -> None:
    """Describe one or several services as one AsyncAPI 3 document, in JSON.

    YAML's readers read it as well. Nothing connects to a broker. `mqkit asyncapi MODULE:SERVICE` is
    the same.

    Exit code 0: done; 2: called wrongly, also where a file cannot be written.
    """
    broker = None if url is None else BrokerUrl.parse(url)
    made = describe_services(
        [load_service(each) for each in services], title=title, version=version, url=broker
    )
    text = json.dumps(made, indent=2, ensure_ascii=False) + "\n"
    if out is not None:
        write_text(out, text)
    if html is not None:
        write_text(html, page(Reader(made, "the document")))
    if out is None and html is None:
        typer.echo(text, nl=False)


@app.command()
def diff(
    old: Annotated[Path, typer.Argument(metavar="OLD", show_default=False)],
    services: ServicesArgument,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Compare services with the document of an earlier version, and name breaking changes.

    Who receives breaks others by taking less, and who sends by sending more.

    Exit code 0: nothing breaks; 1: something does; 2: called wrongly.
    """
    before = read(_read(old), str(old))
    made = describe_services([load_service(each) for each in services])
    found = differences(before, Reader(made, "the services' document"))
    breaks = [change for change in found if change.breaking]
    if as_json:
        typer.echo(
            json.dumps({"breaking": len(breaks), "changes": [asdict(c) for c in found]}, indent=2)
        )
    else:
        for change in found:
            kind = "breaking" if change.breaking else "other"
            typer.echo(f"{kind}: {shown(change.where, 400)}: {change.what}")
        if not found:
            typer.echo("nothing changed")
    if breaks:
        sys.exit(FAILED)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise AsyncapiError(f"{path} cannot be read: {error.strerror or error}") from error
