"""`mqkit dead-letters replay`: publishes dead letters to the queue that they came from."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Annotated

import typer

from mqkit.cli.dead_letters import texts
from mqkit.cli.dead_letters.options import (
    AllOption,
    JsonOption,
    QueueArgument,
    Reach,
    ServiceOption,
    WhoOption,
    check_chosen,
    run,
    service_of,
    shared,
)
from mqkit.cli.exit_codes import FAILED
from mqkit.cli.options import number_option, seconds_option
from mqkit.dead_letters import DeadLetters, Filter, Inbox, Pace, Rehearsed
from mqkit.dead_letters.messages.view import masked
from mqkit.errors import OptionError
from mqkit.logging.masking import DEFAULT
from mqkit.registration.service import Service

DEFAULT_PACE = Pace()


@shared
def replay(
    queue: QueueArgument,
    *,
    reach: Reach,
    filter_: Filter,
    everything: AllOption = False,
    rate: Annotated[
        float,
        typer.Option(
            help="Messages a second at most.", callback=number_option("messages a second", over=0)
        ),
    ] = DEFAULT_PACE.rate,
    stop_at: Annotated[
        float,
        typer.Option(
            metavar="SHARE",
            help="Stop where this share of what was replayed failed again: over 0, to 1.",
        ),
    ] = DEFAULT_PACE.stop_at,
    at_least: Annotated[
        int, typer.Option(help="Messages that are replayed before the share counts.", min=1)
    ] = DEFAULT_PACE.at_least,
    watch: Annotated[
        float,
        typer.Option(
            help="Seconds that it watches, after the last one, what fails again.",
            callback=seconds_option(),
        ),
    ] = DEFAULT_PACE.watch,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Change nothing; say how many it would be. With --service: which bodies the "
            "handler takes, and which messages the inbox of the service's store would skip.",
        ),
    ] = False,
    service: ServiceOption = None,
    why: Annotated[
        str | None, typer.Option(help="Why you do it, for the audit.", show_default=False)
    ] = None,
    who: WhoOption = None,
    as_json: JsonOption = False,
) -> None:
    """Replay dead letters to the queue that they came from, one after the other, in their order.

    Each is published under its own message id, and confirmed before it is removed. Ctrl-C and
    SIGTERM stop it after the message under way. Called again, it goes on with what is left; where
    it was killed or lost its connection, the one message that was confirmed and not removed is in
    its queue twice. What fails again is not replayed again by this run.

    Exit code 0: done; 1: it failed, or stopped at --stop-at; 2: called wrongly; 130: interrupted.
    """
    check_chosen(filter_, everything=everything)
    pace = Pace(rate=rate, stop_at=stop_at, at_least=at_least, watch=watch)
    of = service_of(service, queue)
    if dry_run:
        _rehearse(queue, reach, filter_, of, as_json=as_json)
        return
    if why is None:
        raise OptionError("say --why, for the audit; or --dry-run, which changes nothing")
    reason = why
    done = run(
        queue,
        reach,
        lambda letters: letters.replay(filter_, why=reason, pace=pace),
        who=who,
        why=why,
    )
    typer.echo(
        texts.as_json({"queue": queue, **asdict(done)}) if as_json else texts.replayed_line(done)
    )
    if done.stopped is not None:
        sys.exit(FAILED)


def _rehearse(
    queue: str, reach: Reach, filter_: Filter, service: Service | None, *, as_json: bool
) -> None:
    async def work(letters: DeadLetters) -> Rehearsed:
        async with _inbox(service) as inbox:
            return await letters.rehearse(filter_, service=service, inbox=inbox)

    found = run(queue, reach, work, service=service)
    masker = DEFAULT if service is None else service.error_reports.masker
    if as_json:
        typer.echo(texts.as_json({"queue": queue, **masked(asdict(found), masker)}))
        return
    for line in texts.rehearsed_lines(found, masker):
        typer.echo(line)


@contextlib.asynccontextmanager
async def _inbox(service: Service | None) -> AsyncIterator[Inbox | None]:
    """Open the store of a service for the block, if it has one with an inbox."""
    if service is None or service.store is None:
        yield None
        return
    from mqkit.store import Store  # noqa: PLC0415 - SQLAlchemy would slow down all other commands

    if not isinstance(service.store, Store):
        yield None
        return
    async with service.store as store:
        yield store
