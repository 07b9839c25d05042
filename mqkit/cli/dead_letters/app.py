"""The commands that look at dead letters: `list`, `show`, `audit`; and all of them in one place."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from mqkit.cli.dead_letters import texts
from mqkit.cli.dead_letters.moving import archive, drop, edit, restore
from mqkit.cli.dead_letters.options import (
    ArchivedOption,
    JsonOption,
    QueueArgument,
    Reach,
    ServiceOption,
    run,
    service_of,
    shared,
)
from mqkit.cli.dead_letters.replaying import replay
from mqkit.dead_letters import DeadLetterNotFoundError, DeadLetters, Filter
from mqkit.dead_letters.messages.view import masked
from mqkit.errors import OptionError
from mqkit.logging.masking import DEFAULT
from mqkit.logging.shown import shown

MAX_LISTED = 100
MAX_LIMIT = 1_000_000

app = typer.Typer(
    help="List, show, replay, edit, archive, restore and drop dead letters.",
    no_args_is_help=True,
)


@app.command("list")
@shared
def list_(
    queue: QueueArgument,
    *,
    reach: Reach,
    filter_: Filter,
    messages: Annotated[
        bool, typer.Option("--messages", help="One line for each message, not for each group.")
    ] = False,
    limit: Annotated[
        int | None,
        typer.Option(
            help=f"With --messages: how many at most. Default: {MAX_LISTED}.",
            min=1,
            max=MAX_LIMIT,
            show_default=False,
        ),
    ] = None,
    archived: ArchivedOption = False,
    service: ServiceOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the dead letters of a queue in groups that failed alike, the largest first.

    All of them stay where they are, in their order. What looks like a secret is masked, and what
    --service masks in its logs.

    Exit code 0: done, also where there is none; 1: it failed; 2: called wrongly.
    """
    if limit is not None and not messages:
        raise OptionError("--limit is for --messages: groups are counted over all messages")
    of = service_of(service)
    masker = DEFAULT if of is None else of.error_reports.masker

    async def work(letters: DeadLetters) -> list[dict[str, Any]] | list[str]:
        if messages:
            found = await letters.letters(filter_, limit=limit or MAX_LISTED, archived=archived)
            told = [letters.summary(each) for each in found]
            return told if as_json else [texts.letter_line(each) for each in told]
        groups = await letters.groups(filter_, archived=archived)
        if as_json:
            return texts.groups_as_json(groups, masker)
        total = sum(each.count for each in groups)
        where = letters.names.archive if archived else letters.names.dead
        return [
            f"{where}: {total} in {len(groups)} groups",
            *texts.group_lines(groups, masker),
        ]

    found = run(queue, reach, work, service=of)
    if as_json:
        typer.echo(texts.as_json({"queue": queue, "messages" if messages else "groups": found}))
    else:
        for line in found:
            typer.echo(line)


@app.command()
@shared
def show(
    queue: QueueArgument,
    which: Annotated[
        str,
        typer.Argument(metavar="ID", help="A message's id, or its ref.", show_default=False),
    ],
    *,
    reach: Reach,
    archived: ArchivedOption = False,
    service: ServiceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a dead letter: its body, its error, and what happened to it before.

    Where several have this id, each of them is shown. What looks like a secret is masked, and what
    --service masks in its logs. A body that is no text is not shown but for the words in it.

    Exit code 0: it is there; 1: it is not, or it failed; 2: called wrongly.
    """
    of = service_of(service)
    filter_ = Filter(ids=frozenset({which}))

    async def work(letters: DeadLetters) -> list[dict[str, Any]]:
        found = await letters.letters(filter_, has_body=True, archived=archived)
        if not found:
            where = letters.names.archive if archived else letters.names.dead
            raise DeadLetterNotFoundError(f"queue {shown(where)} has no message {shown(which)}")
        return [letters.detail(each) for each in found]

    found = run(queue, reach, work, service=of)
    if as_json:
        typer.echo(texts.as_json({"queue": queue, "messages": found}))
        return
    for each in found:
        for line in texts.detail_lines(each):
            typer.echo(line)


@app.command()
@shared
def audit(
    queue: QueueArgument,
    *,
    reach: Reach,
    limit: Annotated[
        int, typer.Option(help="How many at most, the latest.", min=1, max=MAX_LIMIT)
    ] = MAX_LISTED,
    as_json: JsonOption = False,
) -> None:
    """Tell who replayed, edited, archived, restored or dropped dead letters, when and why.

    Exit code 0: done, also where nobody did; 1: it failed; 2: called wrongly.
    """
    entries = run(queue, reach, lambda letters: letters.audit(limit))
    if as_json:
        told = [
            {**masked(asdict(each), DEFAULT), "at": each.at and each.at.isoformat()}
            for each in entries
        ]
        typer.echo(texts.as_json({"queue": queue, "entries": told}))
        return
    for each in entries:
        typer.echo(texts.audit_line(each, DEFAULT))


app.command()(replay)
app.command()(edit)
app.command()(archive)
app.command()(restore)
app.command()(drop)
