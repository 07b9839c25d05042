"""`mqkit saga list` and `mqkit saga show`: what a store knows of sagas, and their histories."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from mqkit.cli.exit_codes import FAILED
from mqkit.cli.options import StoreOption, SvgOption, store_option, write_text
from mqkit.errors import OptionError
from mqkit.logging.shown import shown
from mqkit.registration.sagas import SagaEntry, SagaRow
from mqkit.sagas import view
from mqkit.sagas.values import SagaStatus

if TYPE_CHECKING:
    from mqkit.store import Store
    from mqkit.store.sagas import SagaStory

T = TypeVar("T")

MAX_VALUE = 200
"""Characters of one value that are shown; --json has what the store has."""

MAX_LISTED = 100

app = typer.Typer(help="Show sagas, as a store knows them.", no_args_is_help=True)

NameOption = Annotated[
    str | None, typer.Option(help="Only sagas of this name.", show_default=False)
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command("list")
def list_(
    *,
    store: StoreOption = None,
    name: NameOption = None,
    status: Annotated[
        str | None,
        typer.Option(help="Only those: running, compensating or completed.", show_default=False),
    ] = None,
    limit: Annotated[int, typer.Option(help="How many at most.", min=1)] = MAX_LISTED,
    as_json: JsonOption = False,
) -> None:
    """List sagas, the ones that changed last first.

    Exit code 0: done, also where there is none; 1: the store failed; 2: called wrongly.
    """
    kinds = [each.value for each in SagaStatus if each is not SagaStatus.NEW]
    if status is not None and status not in kinds:
        raise OptionError(f"--status is one of {', '.join(kinds)}, not {shown(status)}")
    rows = asyncio.run(
        _ask(store_option(store), lambda it: it.sagas(name=name, status=status, limit=limit))
    )
    if as_json:
        typer.echo(json.dumps({"sagas": [view.summary(each) for each in rows]}, indent=2))
        return
    for each in rows:
        typer.echo(_line(each))


@app.command()
def show(
    saga_id: Annotated[str, typer.Argument(metavar="ID", show_default=False)],
    *,
    store: StoreOption = None,
    name: NameOption = None,
    as_json: JsonOption = False,
    svg: SvgOption = None,
) -> None:
    """Show a saga's state and its history: messages in, changes, messages out, times.

    Where sagas of several names have this id, each of them is shown. What looks like a secret is
    masked. `--svg` draws the history of one saga, without its state.

    Exit code 0: it is known; 1: it is not, or the store failed; 2: called wrongly.
    """
    found = asyncio.run(_ask(store_option(store), lambda it: it.saga(saga_id, name=name)))
    if svg is not None and found:
        _draw(svg, found)
    if as_json:
        told = [
            {**view.summary(each.saga), "history": [view.step(entry) for entry in each.history]}
            for each in found
        ]
        typer.echo(json.dumps({"id": saga_id, "sagas": told}, indent=2))
    elif found:
        typer.echo("\n".join(line for each in found for line in _lines(each)))
    if not found:
        of_name = "" if name is None else f" of the name {shown(name)}"
        typer.echo(
            f"mqkit: the store knows no saga {shown(saga_id)}{of_name}: it never began, or was "
            "completed so long ago that it is forgotten",
            err=True,
        )
        sys.exit(FAILED)


def _draw(path: Path, found: Sequence[SagaStory]) -> None:
    from mqkit.store.drawing.saga import saga_svg  # noqa: PLC0415 - as in `_ask`

    if len(found) > 1:
        names = ", ".join(shown(each.saga.name) for each in found)
        raise OptionError(f"--svg draws one saga, and there is one in each of {names}: say --name")
    write_text(path, saga_svg(found[0]))


async def _ask(url: str, question: Callable[[Store], Awaitable[T]]) -> T:
    from mqkit.store import Store  # noqa: PLC0415 - SQLAlchemy would slow down all other commands

    async with Store(url, relay=False, create_tables=False) as store:
        return await question(store)


def _line(row: SagaRow) -> str:
    updated = row.updated_at.isoformat(timespec="seconds")
    return f"{shown(row.name)} {shown(row.id)}: {row.status}, changed {updated}"


def _lines(story: SagaStory) -> list[str]:
    """Return what is printed of a saga and its history."""
    row = view.summary(story.saga)
    lines = [_line(story.saga), f"  began {story.saga.started_at.isoformat(timespec='seconds')}"]
    if "unreadable" in row:
        lines.append(f"  not written by mqkit, and not readable: {', '.join(row['unreadable'])}")
    if row["reason"] is not None:
        lines.append(f"  compensates: {shown(row['reason'], MAX_VALUE)}")
    lines += [
        f"  {what}: {', '.join(shown(each) for each in row[what])}"
        for what in ("timeouts", "done")
        if row[what]
    ]
    lines += [f"  {shown(key)}: {_value(value)}" for key, value in _fields(row["state"])]
    for entry in story.history:
        lines += _told(entry)
    return lines


def _told(entry: SagaEntry) -> list[str]:
    told = view.step(entry)
    handler = entry.handler.rpartition(".")[2]
    at = entry.at.isoformat(timespec="milliseconds")
    came = f"{shown(entry.message_type)} {shown(entry.message_id)} -> {shown(handler)}"
    lines = [f"{at} {came}: {shown(entry.result)}, {entry.status}"]
    lines += [f"    {shown(key)} = {_value(value)}" for key, value in _fields(told["changes"])]
    for each in told["published"]:
        where = " ".join(shown(each[key]) for key in ("exchange", "routing_key") if each[key])
        later = f", after {each['delay']} s" if "delay" in each else ""
        later += f", at {shown(each['at'])}" if "at" in each else ""
        lines.append(f"    <- {shown(each['type'])} {shown(each['message_id'])} to {where}{later}")
    return lines


def _fields(state: Any) -> list[tuple[str, Any]]:
    return list(state.items()) if isinstance(state, dict) else [("state", state)]


def _value(value: Any) -> str:
    return shown(json.dumps(value, ensure_ascii=False), MAX_VALUE)
