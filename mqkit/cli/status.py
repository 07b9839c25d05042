"""`mqkit status`: what became of a message, as the store tells it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic_core import to_json

from mqkit.cli.options import FAILED, StoreOption, store_option

if TYPE_CHECKING:
    from mqkit.store import MessageStatus


def status(
    message_id: Annotated[str, typer.Argument(metavar="MESSAGE_ID", show_default=False)],
    store: StoreOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Tell what became of a message: with each handler that had it, and in the outbox.

    Exit code 0: it is known; 1: it is not, or the store failed; 2: called wrongly.
    """
    found = asyncio.run(_ask(store_option(store), message_id))
    if as_json:
        states = [asdict(one) for one in found]
        typer.echo(to_json({"message_id": message_id, "states": states}, indent=2))
    elif found:
        typer.echo("\n".join(_lines(found)))
    if not found:
        typer.echo(
            f"mqkit: the store knows no message {_shown(message_id)}: it never came to a service "
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
        what = f"{_shown(where)}: {one.state}"
        if one.attempt:
            what += f", attempt {one.attempt}"
        what += f", {one.updated_at.isoformat(timespec='seconds')}"
        if one.retry_at is not None:
            what += f", next {one.retry_at.isoformat(timespec='seconds')}"
        lines.append(what)
        if one.error is not None:
            kind = f"{one.error_type}: " if one.error_type else ""
            lines.append(f"  {_shown(kind + one.error)}")
        if one.result is not None:
            lines.append(f"  result {_shown(to_json(one.result).decode())}")
    return lines


def _shown(text: str) -> str:
    """A text that moves no cursor: it came from outside."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
