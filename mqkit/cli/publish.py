"""`mqkit publish`: the lines of a file, confirmed one by one, and never twice."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer
from pydantic_core import from_json
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mqkit.cli.journal import Journal, JournalError, line_hash, message_id
from mqkit.cli.options import broker_url
from mqkit.codec import JSON
from mqkit.connection import Connection
from mqkit.drivers.pika import PikaDriver
from mqkit.errors import ConfigurationError, ExchangeNotFoundError, MqkitError
from mqkit.outgoing import Outgoing
from mqkit.publisher import DEFAULT_TIMEOUT, Publisher, PublishResult
from mqkit.settings import BrokerUrl

FAILED = 1
INTERRUPTED = 130

CONNECT_DEADLINE = 10.0
"""Seconds for the first connection: a person is waiting."""

SHOWN = 20
"""Groups of failed lines that are listed on the screen; --json lists every line."""

LINE_EVERY = 2.0
"""Seconds between two lines of progress where there is no terminal."""


@dataclass(slots=True)
class Outcome:
    """What became of the file's lines."""

    lines: int = 0
    confirmed: int = 0
    skipped: int = 0
    """Confirmed by an earlier run."""
    failed: list[tuple[int, str]] = field(default_factory=list)
    """Line number and what was wrong."""
    interrupted: bool = False
    stopped_by: str | None = None
    """An error that every further line would meet."""

    def as_json(self) -> dict[str, object]:
        """The figures for a program."""
        return {
            "lines": self.lines,
            "confirmed": self.confirmed,
            "skipped": self.skipped,
            "failed": [{"line": number, "error": error} for number, error in self.failed],
            "interrupted": self.interrupted,
            "stopped_by": self.stopped_by,
        }


def publish(
    exchange: Annotated[str, typer.Argument(help="Its name; '' is the default exchange.")],
    key: Annotated[str, typer.Argument(help="The routing key of every message.")],
    file: Annotated[
        Path, typer.Option(help="JSON values, one a line; each line is one message's body.")
    ],
    url: Annotated[
        str | None, typer.Option(help="The broker. Default: MQKIT_URL.", show_default=False)
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on after an earlier run: skip what it confirmed.")
    ] = False,
    anew: Annotated[
        bool, typer.Option("--anew", help="Send every line, confirmed by an earlier run or not.")
    ] = False,
    journal: Annotated[
        Path | None,
        typer.Option(help="Where confirmed lines are noted. Default: FILE.published.jsonl"),
    ] = None,
    window: Annotated[
        int, typer.Option(help="Messages that may wait for their confirm at a time.", min=1)
    ] = 500,
    timeout: Annotated[
        float, typer.Option(help="Seconds in which a message must be confirmed.", min=0.1)
    ] = DEFAULT_TIMEOUT,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Publish a file, each line confirmed by the broker; say which lines failed, and why.

    What is confirmed is noted in a journal, and --resume sends only the rest. If this process is
    killed outright, lines confirmed in its last moments may be missing there; they are sent
    again under the same message id. Ctrl-C and SIGTERM wait for what is on its way.

    Exit code 0: every line is confirmed; 1: some are not; 2: called wrongly; 130: interrupted.
    """
    logging.basicConfig(level=logging.WARNING, format="mqkit: %(message)s")
    broker = broker_url(url)
    if resume and anew:
        raise ConfigurationError("--resume and --anew exclude each other")
    total = _count_lines(file)
    notes = Journal(
        journal or file.with_name(f"{file.name}.published.jsonl"),
        exchange=exchange,
        routing_key=key,
    )
    if anew:
        notes.forget()
    elif len(notes) and not resume:
        raise JournalError(
            f"{len(notes)} lines are confirmed by an earlier run ({notes.path}); "
            "say --resume to send the others only, or --anew to send all again"
        )
    with notes:
        run = _Run(file, Outgoing(exchange, key, b"", content_type=JSON), notes, total)
        outcome = asyncio.run(run.publish(broker, window=window, timeout=timeout))
    _report(outcome, as_json=as_json)
    if outcome.interrupted:
        raise typer.Exit(INTERRUPTED)
    raise typer.Exit(FAILED if outcome.failed or outcome.stopped_by else 0)


class _Run:
    """One run over the file; what is on its way is confirmed before it ends."""

    def __init__(self, file: Path, pattern: Outgoing, journal: Journal, total: int) -> None:
        self._file = file
        self._pattern = pattern
        self._journal = journal
        self._outcome = Outcome()
        self._stop = False
        self._given = 0
        self._sent: dict[int, tuple[int, str]] = {}
        """Line number and hash of what `publish_many` was given and has not answered, by index."""
        self._shown = _Shown(total)

    async def publish(self, broker: BrokerUrl, *, window: int, timeout: float) -> Outcome:  # noqa: ASYNC109
        connection = Connection(broker, name="mqkit publish", driver=PikaDriver())
        await connection.open(CONNECT_DEADLINE)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._interrupt)
        publisher = Publisher(connection, app_id="mqkit publish", window=window)
        try:
            with self._shown:
                messages = self._messages()
                async for result in publisher.publish_many(
                    messages, window=window, timeout=timeout
                ):
                    self._take(result)
        finally:
            await publisher.close()
            await connection.close()
        return self._outcome

    def _interrupt(self) -> None:
        self._outcome.interrupted = self._stop = True

    def _messages(self) -> Iterator[Outgoing]:
        with self._file.open("rb") as file:
            for number, raw in enumerate(file, start=1):
                if self._stop:
                    return
                line = raw.rstrip(b"\r\n")
                if not line.strip():
                    continue
                self._outcome.lines += 1
                digest = line_hash(line)
                if self._journal.has(number, digest):
                    self._outcome.skipped += 1
                elif problem := _not_json(line):
                    self._fail(number, problem)
                else:
                    self._sent[self._given] = (number, digest)
                    self._given += 1
                    yield self._message(number, line, digest)

    def _message(self, number: int, line: bytes, digest: str) -> Outgoing:
        exchange, key = str(self._pattern.exchange), self._pattern.routing_key
        identity = message_id(exchange, key, number, digest)
        return Outgoing(exchange, key, line, message_id=identity, content_type=JSON)

    def _take(self, result: PublishResult) -> None:
        number, digest = self._sent.pop(result.index)
        if result.error is None:
            self._outcome.confirmed += 1
            self._journal.add(number, digest)
            self._journal.flush()
        else:
            self._fail(number, _reason(result.error))
            if isinstance(result.error, ExchangeNotFoundError):
                self._outcome.stopped_by, self._stop = result.error.problem, True
        self._shown.show(self._outcome)

    def _fail(self, number: int, problem: str) -> None:
        self._outcome.failed.append((number, problem))


class _Shown:
    """Progress on stderr: a bar on a terminal, a line now and then elsewhere."""

    def __init__(self, total: int) -> None:
        self._console = Console(stderr=True)
        self._total = total
        self._next = time.monotonic() + LINE_EVERY
        self._bar = Progress(
            TextColumn("published"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("published", total=total)

    def __enter__(self) -> None:
        self._bar.start()

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, outcome: Outcome) -> None:
        """Show how far it is."""
        done = outcome.confirmed + outcome.skipped + len(outcome.failed)
        self._bar.update(self._task, completed=done)
        if self._bar.disable and time.monotonic() >= self._next:
            self._next = time.monotonic() + LINE_EVERY
            self._console.print(f"{done:,} of {self._total:,} lines", highlight=False)


def _count_lines(file: Path) -> int:
    if not file.is_file():
        what = "is not a regular file" if file.exists() else "does not exist"
        raise ConfigurationError(f"--file {file} {what}")
    try:
        with file.open("rb") as lines:
            return sum(1 for line in lines if line.strip())
    except OSError as error:
        raise ConfigurationError(f"--file {file} cannot be read: {error.strerror}") from error


def _not_json(line: bytes) -> str | None:
    try:
        # Not json.loads: it takes NaN, and UTF-16 where the line begins with its mark.
        from_json(line.decode("utf-8"), allow_inf_nan=False, cache_strings="none")
    except UnicodeDecodeError:
        return "not UTF-8"
    except ValueError as error:
        return f"not JSON: {error}"
    return None


def _reason(error: MqkitError) -> str:
    return str(getattr(error, "problem", error))


def _by_reason(failed: list[tuple[int, str]]) -> list[tuple[str, str]]:
    """Failed lines as a person reads them: neighbours that failed alike in one."""
    grouped: list[tuple[str, str]] = []
    for problem, group in itertools.groupby(sorted(failed), key=lambda item: item[1]):
        numbers = [number for number, _ in group]
        first, last = numbers[0], numbers[-1]
        lines = f"line {first}" if first == last else f"{len(numbers)} lines, {first} to {last}"
        grouped.append((lines, problem))
    return grouped


def _report(outcome: Outcome, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(outcome.as_json()))
        return
    typer.echo(
        f"{outcome.confirmed} confirmed, {outcome.skipped} skipped (confirmed by an earlier run), "
        f"{len(outcome.failed)} failed"
    )
    reasons = _by_reason(outcome.failed)
    for lines, problem in reasons[:SHOWN]:
        typer.echo(f"{lines}: {problem}", err=True)
    if len(reasons) > SHOWN:
        typer.echo(f"and {len(reasons) - SHOWN} more; --json lists them all", err=True)
    if outcome.stopped_by:
        typer.echo(f"stopped: {outcome.stopped_by}", err=True)
    if outcome.interrupted:
        typer.echo("interrupted; --resume goes on with the lines that are left", err=True)
