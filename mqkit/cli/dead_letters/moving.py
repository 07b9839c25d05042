"""`mqkit dead-letters edit`, `archive`, `restore` and `drop`."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from mqkit.cli.dead_letters import texts
from mqkit.cli.dead_letters.options import (
    AllOption,
    ArchivedOption,
    JsonOption,
    QueueArgument,
    Reach,
    ServiceOption,
    WhoOption,
    WhyOption,
    check_chosen,
    run,
    service_of,
    shared,
)
from mqkit.cli.exit_codes import CALLED_WRONGLY
from mqkit.dead_letters import Filter, Moved
from mqkit.errors import OptionError
from mqkit.logging.shown import shown


@shared
def edit(
    queue: QueueArgument,
    which: Annotated[
        str,
        typer.Argument(metavar="ID", help="A message's id, or its ref.", show_default=False),
    ],
    *,
    body: Annotated[
        str,
        typer.Option(
            metavar="FILE", help="The new body; - is the standard input.", show_default=False
        ),
    ],
    why: WhyOption,
    who: WhoOption = None,
    reach: Reach,
    service: ServiceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put a copy of a dead letter with another body beside it, and archive the original.

    The copy has an id of its own, names whose it is, and is replayed as any other dead letter. With
    --service, the handler must take the new body.

    Exit code 0: done; 1: it failed; 2: called wrongly.
    """
    of = service_of(service, queue)
    data = _contents(body)
    done = run(
        queue,
        reach,
        lambda letters: letters.edit(which, data, why=why, service=of),
        who=who,
        why=why,
        service=of,
    )
    if as_json:
        typer.echo(texts.as_json({"queue": queue, **asdict(done)}))
    else:
        typer.echo(f"message {shown(done.message_id)} is the edited copy; the original is archived")


def _contents(file: str) -> bytes:
    """Read the new body.

    :raises OptionError: it cannot be read
    """
    if file == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(file).read_bytes()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise OptionError(f"--body {shown(file)} cannot be read: {why}") from error


@shared
def archive(
    queue: QueueArgument,
    *,
    why: WhyOption,
    who: WhoOption = None,
    reach: Reach,
    filter_: Filter,
    everything: AllOption = False,
    as_json: JsonOption = False,
) -> None:
    """Move dead letters into the archive: a queue beside theirs, in which nothing expires.

    Exit code 0: done; 1: it failed; 2: called wrongly.
    """
    check_chosen(filter_, everything=everything)
    done = run(queue, reach, lambda letters: letters.archive(filter_, why=why), who=who, why=why)
    _tell(queue, done, "archived", as_json=as_json)


@shared
def restore(
    queue: QueueArgument,
    *,
    why: WhyOption,
    who: WhoOption = None,
    reach: Reach,
    filter_: Filter,
    everything: AllOption = False,
    as_json: JsonOption = False,
) -> None:
    """Move messages out of the archive, to the end of the dead letter queue.

    Exit code 0: done; 1: it failed; 2: called wrongly.
    """
    check_chosen(filter_, everything=everything)
    done = run(queue, reach, lambda letters: letters.restore(filter_, why=why), who=who, why=why)
    _tell(queue, done, "restored", as_json=as_json)


@shared
def drop(
    queue: QueueArgument,
    *,
    why: WhyOption,
    who: WhoOption = None,
    reach: Reach,
    filter_: Filter,
    everything: AllOption = False,
    archived: ArchivedOption = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Do it; without, say how many it would be.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Remove dead letters for good. The audit keeps their ids, and nothing their bodies.

    Exit code 0: done; 1: it failed; 2: called wrongly, or --yes was not said.
    """
    check_chosen(filter_, everything=everything)
    if not yes:
        _tell_what_would_go(queue, reach, filter_, archived=archived)
    done = run(
        queue,
        reach,
        lambda letters: letters.drop(filter_, why=why, archived=archived),
        who=who,
        why=why,
    )
    _tell(queue, done, "dropped", as_json=as_json)


def _tell_what_would_go(queue: str, reach: Reach, filter_: Filter, *, archived: bool) -> None:
    groups = run(queue, reach, lambda letters: letters.groups(filter_, archived=archived))
    count = sum(each.count for each in groups)
    typer.echo(f"mqkit: {count} would be dropped for good; nothing was: say --yes", err=True)
    sys.exit(CALLED_WRONGLY)


def _tell(queue: str, done: Moved, what: str, *, as_json: bool) -> None:
    if as_json:
        typer.echo(texts.as_json({"queue": queue, **asdict(done)}))
    else:
        typer.echo(f"{what} {done.moved} (run {done.run}), {done.left} left")
