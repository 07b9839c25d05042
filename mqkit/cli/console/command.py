"""`mqkit console`: reads its options, and serves the console until Ctrl-C or SIGTERM."""

from __future__ import annotations

import os
import secrets
import socket
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import SecretStr

from mqkit.cli.dead_letters.options import WhoOption, who_default
from mqkit.cli.log_setup import log_to_stderr
from mqkit.cli.loop import runner, tune_collector
from mqkit.cli.options import (
    LogLevelOption,
    ManagementOption,
    UrlOption,
    address,
    broker_url,
    log_level_number,
    management_url,
    read_text,
)
from mqkit.cli.services import load_service
from mqkit.settings import Settings

if TYPE_CHECKING:
    from mqkit.console.settings import ConsoleSettings

TOKEN_VARIABLE = "MQKIT_CONSOLE_TOKEN"  # noqa: S105 - its name

LISTEN = "--listen"

DEFAULT_LISTEN = "8472"

Stores = Annotated[
    list[str] | None,
    typer.Option(
        "--store",
        help="A service's store; may be repeated: sqlite:///path or "
        "postgresql://user:password@host/database. Default: the environment's MQKIT_STORE.",
        show_default=False,
    ),
]
Services = Annotated[
    list[str] | None,
    typer.Option(
        "--service",
        metavar="MODULE:SERVICE",
        help="A service whose handlers a dry run asks whether they take the bodies; may be "
        "repeated.",
        show_default=False,
    ),
]


def console(
    *,
    url: UrlOption = None,
    management: ManagementOption = None,
    store: Stores = None,
    service: Services = None,
    listen: Annotated[
        str,
        typer.Option(
            LISTEN, metavar="[HOST:]PORT", help="Where it listens; alone, for this machine."
        ),
    ] = DEFAULT_LISTEN,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="A name by which browsers reach it, such as a proxy's; may be repeated.",
            show_default=False,
        ),
    ] = None,
    allow_changes: Annotated[
        bool,
        typer.Option(
            "--allow-changes", help="Let it replay, archive and restore; else it only shows."
        ),
    ] = False,
    token_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help=f"The file that has the token. Default: the environment's {TOKEN_VARIABLE}; "
            "without either, one is made up and printed.",
            show_default=False,
        ),
    ] = None,
    who: WhoOption = None,
    log_level: LogLevelOption = "warning",
) -> None:
    """Serve the web console: what all services on a broker do, in a browser.

    It reads what processes say of themselves, the broker's queues, and the stores that are named.
    A browser must show the token once. Ctrl-C ends it.

    Exit code 0: stopped; 1: it cannot listen there; 2: called wrongly.
    """
    # First of all: that an extra is missing is said before anything else is asked for.
    from mqkit.console.serving import listen as listen_on  # noqa: PLC0415 - an extra
    from mqkit.console.settings import ConsoleSettings  # noqa: PLC0415 - as above

    level = log_level_number(log_level)
    host, port = address(listen, LISTEN)
    token, is_made_up = _token(token_file)
    api = management_url(management)
    settings = ConsoleSettings(
        url=broker_url(url),
        management=None if api is None else SecretStr(api),
        stores=tuple(SecretStr(each) for each in _stores(store)),
        services=tuple(load_service(each) for each in service or ()),
        token=token,
        who=who_default() if who is None else who,
        allow_changes=allow_changes,
        hosts=frozenset([*(allow_host or ()), f"[{host}]" if ":" in host else host]),
    )
    settings.watcher()  # so that a URL that is none is said at once
    log_to_stderr(level)
    with listen_on(host, port) as listening, runner(None) as on_loop:
        on_loop.run(_serve(settings, host, listening, says_token=is_made_up))


async def _serve(
    settings: ConsoleSettings, host: str, listening: socket.socket, *, says_token: bool
) -> None:
    from mqkit.console.app import create_app  # noqa: PLC0415 - an extra
    from mqkit.console.serving import login_link, serve  # noqa: PLC0415 - as above
    from mqkit.console.watching import PatientWatcher  # noqa: PLC0415 - as above

    port = listening.getsockname()[1]
    settings = replace(settings, port=port)
    watching = PatientWatcher(settings.watcher)
    app = create_app(settings, watching)
    typer.echo(f"the console opens once, within ten minutes, at {login_link(app, host, port)}")
    if says_token:
        typer.echo(f"elsewhere it asks for the token {settings.token.get_secret_value()}")
    if settings.allow_changes:
        typer.echo("it may replay, archive and restore dead letters (--allow-changes)")
    sys.stdout.flush()
    app.state.desk.templates.load()
    tune_collector(holds_much=True)  # what processes said in the last minute
    async with watching:
        await serve(app, listening)


def _token(file: Path | None) -> tuple[SecretStr, bool]:
    """Return the token, and whether it was made up."""
    if file is not None:
        return SecretStr(read_text(file, "--token-file").strip("\r\n")), False
    if (given := os.environ.get(TOKEN_VARIABLE)) is not None:
        return SecretStr(given), False
    return SecretStr(secrets.token_urlsafe(24)), True


def _stores(options: list[str] | None) -> list[str]:
    if options:
        return options
    setting = Settings().store
    return [] if setting is None else [setting.get_secret_value()]
