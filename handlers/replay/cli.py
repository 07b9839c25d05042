"""The commands of `python -m handlers`: `demo`, `bank`, `summary`, `replay`, ...."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.logging import RichHandler

from handlers.accounting.database import database_url
from handlers.accounting.errors import LedgerError
from handlers.bank.command import bank
from handlers.bank.run import BankError
from handlers.demo.command import demo
from handlers.demo.folder import FolderError
from handlers.demo.run import DemoError
from handlers.demo.summary import summary
from handlers.replay import generate as generator
from handlers.replay.replay import POSTED, PUBLISHED, Replay, ReplayError
from handlers.replay.report import Report, print_report
from handlers.replay.standing_orders import Placed, place_orders
from handlers.replay.statement_file import Statement, StatementError, open_statement
from handlers.running import loop
from handlers.running.processes import ProcessError
from handlers.running.progress import Progress
from mqkit import BrokerUrl, ConfigurationError, MqkitError, Publisher
from mqkit.embedded import PRODUCT, ServerThread
from mqkit.settings import Settings
from mqkit.store import Store
from mqkit.testing.brokers import find_brokers, start

FAILED = 1
CALLED_WRONGLY = 2
INTERRUPTED = 130

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
errors = Console(stderr=True)
app.command()(demo)
app.command()(summary)
app.command()(bank)


@app.callback()
def _commands() -> None:
    """The payment services, run on a bank's statement."""


@app.command()
def replay(
    file: Annotated[Path, typer.Argument(help="The statement, in the bank's own format.")],
    url: Annotated[
        str | None,
        typer.Option(
            help="The broker: amqp[s]://user:password@host/vhost. Default: MQKIT_URL, or else "
            "mqkit's embedded broker, started for this run.",
            show_default=False,
        ),
    ] = None,
    rabbitmq: Annotated[
        bool,
        typer.Option("--rabbitmq", help="Find and start a RabbitMQ for this run, as the tests do."),
    ] = False,
    database: Annotated[
        str,
        typer.Option(
            envvar="LEDGER_DATABASE",
            help="The ledger's SQLite file, or postgresql://user:password@host/database: by the "
            "variable, as other users see what is on a command line.",
        ),
    ] = "ledger.sqlite",
    timeout: Annotated[
        float, typer.Option(help="Seconds without progress after which to give up.", min=1)
    ] = 60.0,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object instead of the table.")
    ] = False,
) -> None:
    """Post a statement through the broker, and reconcile the ledger with the bank's balances.

    Exit code 0: everything reconciles; 1: it does not, or it failed; 2: called wrongly.
    """
    logging.basicConfig(
        level=logging.WARNING,
        format="%(message)s",
        handlers=[RichHandler(console=errors, show_path=False, markup=False)],
    )
    ledger = database_url(database)
    Store(ledger)  # which looks at the URL, and names no password where it is malformed
    statement = open_statement(file)
    with _broker(url, rabbitmq=rabbitmq) as found:
        report = _replay(statement, found, ledger, timeout)
    if as_json:
        typer.echo(json.dumps(report.as_json()))
    else:
        print_report(report, Console())
    raise typer.Exit(0 if report.reconciles else FAILED)


def _replay(statement: Statement, url: str, database: str, timeout: float) -> Report:
    totals = {PUBLISHED: statement.rows, POSTED: statement.rows}
    with Progress(totals, errors) as progress:
        run = Replay(statement, url, database, timeout=timeout, progress=progress)
        return loop.run(run.run())


@contextlib.contextmanager
def _broker(option: str | None, *, rabbitmq: bool) -> Iterator[str]:
    """Yield the URL of the broker: by option, by `MQKIT_URL`, or of one started for this run."""
    setting = Settings().url
    url = option
    if url is not None and rabbitmq:
        raise ConfigurationError("--rabbitmq and --url are two brokers; give one of them")
    if url is None and setting is not None and not rabbitmq:
        url = setting.get_secret_value()
    if url is not None:
        BrokerUrl.parse(url)
        yield url
    elif rabbitmq:
        spec = find_brokers(os.environ)[0]
        errors.print(f"using {spec}", highlight=False)
        with start(spec) as broker:
            yield broker.url
    else:
        errors.print(f"using the {PRODUCT}, in memory, for this run only", highlight=False)
        with ServerThread() as server:
            yield server.url


@app.command()
def orders(
    file: Annotated[Path, typer.Argument(help="The standing orders, in the bank's own format.")],
    url: Annotated[
        str | None,
        typer.Option(
            help="The broker: amqp[s]://user:password@host/vhost. Default: MQKIT_URL.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object instead of a line.")
    ] = False,
) -> None:
    """Place standing orders: the orders service, which must have been started once, pays them.

    Exit code 0: each row is an order that was placed; 1: some are not, or it failed; 2: called
    wrongly.
    """
    setting = Settings().url
    given = url if url is not None else setting and setting.get_secret_value()
    if not given:
        raise ConfigurationError("which broker? Say --url, or set MQKIT_URL")
    counts = loop.run(_place(file, BrokerUrl.parse(given)))
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(counts)))
    else:
        typer.echo(
            f"{counts.placed:,} orders placed, {counts.bad:,} rows that are none, "
            f"{counts.failed:,} orders that could not be published"
        )
    raise typer.Exit(0 if counts.all_placed else FAILED)


async def _place(file: Path, url: BrokerUrl) -> Placed:
    async with Publisher(url, app_id="standing-orders") as publisher:
        return await place_orders(file, publisher, lambda line: typer.echo(line, err=True))


@app.command()
def generate(
    file: Annotated[Path, typer.Argument(help="Where to write the statement.")],
    seed: Annotated[int, typer.Option(help="The same seed gives the same file.")] = (
        generator.DEFAULT_SEED
    ),
    rows: Annotated[int, typer.Option(min=1)] = generator.DEFAULT_ROWS,
    accounts: Annotated[int, typer.Option(min=1)] = generator.DEFAULT_ACCOUNTS,
) -> None:
    """Write a made-up statement in the bank's format."""
    try:
        generator.write_statement(file, seed=seed, rows=rows, accounts=accounts)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    errors.print(f"wrote {rows:,} rows over {accounts:,} accounts to {file}", highlight=False)


def _as_ctrl_c(_number: int, _frame: object) -> None:
    """Do on SIGTERM what Ctrl-C does: an event loop cancels what it runs, which ends processes."""
    signal.raise_signal(signal.SIGINT)


def main() -> None:
    """Run the command line of this process; SIGTERM ends what it has started, as Ctrl-C does."""
    signal.signal(signal.SIGTERM, _as_ctrl_c)
    try:
        app()
    except (KeyboardInterrupt, SystemExit) as ending:
        code = INTERRUPTED if isinstance(ending, KeyboardInterrupt) else ending.code
        if code == INTERRUPTED:  # as typer says it, too
            typer.echo("handlers: interrupted; what it had started has ended", err=True)
        sys.exit(code)
    except (ConfigurationError, FolderError) as error:
        typer.echo(f"handlers: {error}", err=True)
        code = CALLED_WRONGLY
    except (
        MqkitError,
        BankError,
        DemoError,
        LedgerError,
        ProcessError,
        ReplayError,
        StatementError,
        OSError,
    ) as error:
        typer.echo(f"handlers: {error}", err=True)
        code = FAILED
    else:
        return
    sys.exit(code)
