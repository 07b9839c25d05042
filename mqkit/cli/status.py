"""`mqkit status`: tells what became of a message, as the store knows it."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic_core import to_json, to_jsonable_python

from mqkit.cli.exit_codes import FAILED
from mqkit.cli.options import StoreOption, SvgOption, store_option, write_text
from mqkit.logging.shown import shown

MAX_RESULT = 2_000
"""Characters of a result, and of an error's text, that are shown; --json has all of it."""

if TYPE_CHECKING:
    from mqkit.store import MessageStatus


def status(
    message_id: Annotated[str, typer.Argument(metavar="MESSAGE_ID", show_default=False)],
    store: StoreOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    svg: SvgOption = None,
) -> None:
    """Tell what became of a message, as far as a store knows.

    With each handler that had it in a service with this store, and whether it is in the outbox.
    That it was handled is known for certain of handlers with a Transaction; other states are
    written a moment later, and where a process is killed its latest are lost.

    Exit code 0: it is known; 1: it is not, or the store failed; 2: called wrongly.
    """
    found = asyncio.run(_ask(store_option(store), message_id))
    if as_json:
        states = [asdict(one) for one in found]
        # ASCII: what is not printable is written in JSON's own escapes.
        told = to_jsonable_python({"message_id": message_id, "states": states})
        typer.echo(json.dumps(told, indent=2))
    elif found:
        typer.echo("\n".join(_lines(found)))
    if svg is not None and found:
        from mqkit.store.drawing.message import message_svg  # noqa: PLC0415 - as in `_ask`

        write_text(svg, message_svg(message_id, found))
    if not found:
        typer.echo(
            f"mqkit: the store knows no message {shown(message_id)}: it never came to a service "
            "with this store, or it is forgotten by now",
            err=True,
        )
        sys.exit(FAILED)


async def _ask(url: str, message_id: str) -> list[MessageStatus]:
    from mqkit.store import Store  # noqa: PLC0415 - SQLAlchemy would slow down all other commands

    async with Store(url, relay=False, create_tables=False) as store:
        return await store.status(message_id)


def _lines(found: Sequence[MessageStatus]) -> list[str]:
    lines = []
    for one in found:
        where = "in the outbox" if one.handler is None else f"{one.handler} (queue {one.queue})"
        what = f"{shown(where)}: {one.state}"
        if one.attempt:
            what += f", attempt {one.attempt}"
        what += f", {one.updated_at.isoformat(timespec='seconds')}"
        if one.retry_at is not None:
            what += f", next {one.retry_at.isoformat(timespec='seconds')}"
        lines.append(what)
        if one.error is not None:
            kind = f"{one.error_type}: " if one.error_type else ""
            lines.append(f"  {shown(kind + one.error, MAX_RESULT)}")
        if one.result is not None:
            lines.append(f"  result {shown(to_json(one.result).decode(), MAX_RESULT)}")
    return lines
