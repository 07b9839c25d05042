"""Options that the commands for dead letters share, and what is made of them."""

from __future__ import annotations

import asyncio
import functools
import getpass
import inspect
import re
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, TypeVar, get_type_hints

import typer

from mqkit import drivers
from mqkit.cli.exit_codes import INTERRUPTED
from mqkit.cli.options import DriverOption, UrlOption, broker_url, name_and_value
from mqkit.cli.services import load_service
from mqkit.dead_letters import DeadLetters, Filter
from mqkit.dead_letters.audit import checked_text
from mqkit.dead_letters.queues import Names
from mqkit.dead_letters.rehearsing import Validator
from mqkit.errors import OptionError
from mqkit.logging.masking import DEFAULT
from mqkit.logging.shown import shown
from mqkit.registration.service import Service
from mqkit.system.signals import terminate_as_interrupt

T = TypeVar("T")

QueueArgument = Annotated[
    str,
    typer.Argument(
        metavar="QUEUE",
        help="A handler's queue, or its dead letter queue.",
        show_default=False,
    ),
]
GroupOption = Annotated[
    list[str] | None,
    typer.Option(help="Of this group, as `list` names it; may be repeated.", show_default=False),
]
IdOption = Annotated[
    list[str] | None,
    typer.Option(
        "--id", help="Of this message id, or this ref; may be repeated.", show_default=False
    ),
]
HandlerOption = Annotated[
    str | None,
    typer.Option(help="Of this handler: its module and name.", show_default=False),
]
SinceOption = Annotated[
    str | None,
    typer.Option(
        help="Failed last at this time or later: 2026-11-30T12:00Z, or 90m, 2h, 3d ago.",
        show_default=False,
    ),
]
UntilOption = Annotated[
    str | None,
    typer.Option(help="Failed last before this time; as --since.", show_default=False),
]
HeaderOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=VALUE",
        help="With this header; may be repeated, and all must be there.",
        show_default=False,
    ),
]
_CHOOSING = {
    "group": GroupOption,
    "ids": IdOption,
    "handler": HandlerOption,
    "since": SinceOption,
    "until": UntilOption,
    "header": HeaderOption,
}
"""The options that choose dead letters, by the names of their parameters."""

_REACHING = {"url": UrlOption, "driver": DriverOption}
"""The options of the connection."""

AllOption = Annotated[
    bool, typer.Option("--all", help="All of them: without a filter, this must be said.")
]
ServiceOption = Annotated[
    str | None,
    typer.Option(
        metavar="MODULE:SERVICE",
        help="The service whose handler consumes the queue.",
        show_default=False,
    ),
]
WhyOption = Annotated[str, typer.Option(help="Why you do it, for the audit.", show_default=False)]
WhoOption = Annotated[
    str | None,
    typer.Option(help="Who does it, for the audit. Default: USER@HOST.", show_default=False),
]
ArchivedOption = Annotated[
    bool, typer.Option("--archived", help="In the archive, not the dead letter queue.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]

_AGO = re.compile(r"(\d{1,6})([smhd])")

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


@dataclass(frozen=True, slots=True)
class Reach:
    """Says how the broker is reached."""

    url: str | None
    """None: by the environment's."""
    driver: str | None


def shared(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that several have, in the place of what is made of them.

    `filter_` is a `Filter` of those that choose dead letters, `reach` the `Reach` of those of the
    connection. They stand where the command has these, in its help, too.
    """
    hints = get_type_hints(command, include_extras=True)
    taken = [name for name in _SHARED if name in hints]

    @functools.wraps(command)
    def with_options(**given: Any) -> None:
        for name in taken:
            options, make = _SHARED[name]
            given[name] = make(**{each: given.pop(each) for each in options})
        command(**given)

    parameters: list[inspect.Parameter] = []
    for each in inspect.signature(command).parameters.values():
        if each.name in taken:
            parameters += [
                inspect.Parameter(name, each.kind, default=None, annotation=option)
                for name, option in _SHARED[each.name][0].items()
            ]
        else:
            parameters.append(each.replace(annotation=hints[each.name]))
    # Typer reads both.
    with_options.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    with_options.__annotations__ = {each.name: each.annotation for each in parameters}
    return with_options


def _chosen(
    *,
    group: Sequence[str] | None,
    ids: Sequence[str] | None,
    handler: str | None,
    since: str | None,
    until: str | None,
    header: Sequence[str] | None,
) -> Filter:
    """Make a filter of the options.

    :raises OptionError: one of them cannot be what it is
    """
    now = datetime.now(UTC)
    return Filter(
        groups=frozenset(group or ()),
        ids=frozenset(ids or ()),
        handler=handler,
        since=None if since is None else moment(since, "--since", now),
        until=None if until is None else moment(until, "--until", now),
        headers=dict(name_and_value(each, "--header") for each in header or ()),
    )


_SHARED: dict[str, tuple[dict[str, Any], Callable[..., Any]]] = {
    "filter_": (_CHOOSING, _chosen),
    "reach": (_REACHING, Reach),
}
"""What is made of shared options, by the name of the parameter that it is given as."""


def check_chosen(filter_: Filter, *, everything: bool) -> None:
    """Check that either a filter or --all was given.

    :raises OptionError: neither was, or both
    """
    if everything and not filter_.is_empty:
        raise OptionError("--all is without a filter: leave out one of them")
    if not everything and filter_.is_empty:
        raise OptionError(
            "which of them? give --group, --id, --handler, --since, --until or --header; or --all"
        )


def moment(text: str, option: str, now: datetime) -> datetime:
    """Read a time, or how long ago it was.

    :raises OptionError: it is neither
    """
    if ago := _AGO.fullmatch(text):
        try:
            return now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        except OverflowError as error:
            raise OptionError(f"{option} {shown(text)} is before there were years") from error
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise OptionError(
            f"{option} is a time such as 2026-11-30T12:00Z, or 90m, 2h or 3d for so long ago, "
            f"not {shown(text)}"
        ) from error
    if found.tzinfo is None:
        raise OptionError(f"{option} {shown(text)} has no time zone: end it in Z or +01:00")
    return found


def who_default() -> str:
    """Return the user and the host that the command runs on."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        user = "unknown"
    return f"{user}@{socket.gethostname()}"


def service_of(spec: str | None, handler_of: str | None = None) -> Service | None:
    """Import the service that was named; None if none was.

    :param handler_of: a queue, of which it must have the handler
    :raises ConfigurationError: it has not
    """
    if spec is None:
        return None
    service = load_service(spec)
    if handler_of is not None:
        Validator(service, Names.of(handler_of).queue)
    return service


def run(
    queue: str,
    reach: Reach,
    work: Callable[[DeadLetters], Awaitable[T]],
    *,
    who: str | None = None,
    why: str | None = None,
    service: Service | None = None,
) -> T:
    """Connect, and do something with the dead letters of a queue.

    What is masked in the service's logs is masked here. Ctrl-C and SIGTERM end it after the message
    that is being moved.

    :raises OptionError: there is no reason in `why`
    :raises ConfigurationError: there is no such driver, or the URL is none
    """
    if why is not None:
        checked_text(why, "--why")
    letters = DeadLetters(
        broker_url(reach.url),
        queue,
        who=who_default() if who is None else who,
        driver=drivers.named(reach.driver),
        masker=DEFAULT if service is None else service.error_reports.masker,
    )

    async def connected() -> T:
        async with letters:
            return await work(letters)

    terminate_as_interrupt()
    try:
        return asyncio.run(connected())
    except KeyboardInterrupt:
        told = "" if why is None else "; the audit says what was done, and a new run goes on"
        typer.echo(f"mqkit: interrupted{told}", err=True)
        sys.exit(INTERRUPTED)
