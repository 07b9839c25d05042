"""`mqkit publish`: publishes each line of a file once, and reports which are confirmed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated

import typer

from mqkit import drivers
from mqkit.broker.connection import Connection
from mqkit.checks.checked import MAX_SHORT
from mqkit.cli.exit_codes import FAILED, INTERRUPTED
from mqkit.cli.options import broker_url, seconds_option
from mqkit.cli.publish.journal import Journal, JournalError, line_hash
from mqkit.cli.publish.json_lines import count_lines, read_lines
from mqkit.cli.publish.properties import (
    Chosen,
    ExpirationOption,
    HeaderOption,
    IdOption,
    LineError,
    PriorityOption,
    TypeOption,
    chosen,
)
from mqkit.cli.publish.report import ProgressDisplay, Summary, report
from mqkit.errors import (
    BlockedError,
    ConfigurationError,
    ConnectionLostError,
    ExchangeNotFoundError,
    MqkitError,
    PublishRefusedError,
    PublishTimeoutError,
)
from mqkit.outcome import MAX_DELAY
from mqkit.publishing.outgoing import Outgoing
from mqkit.publishing.pipeline import PublishResult
from mqkit.publishing.publisher import Publisher
from mqkit.publishing.window import DEFAULT_TIMEOUT
from mqkit.settings import BrokerUrl
from mqkit.system.signals import STOPPING, on_signal

APP_ID = "mqkit publish"

CONNECT_DEADLINE = 10.0
"""Seconds for the first connection: a person is waiting."""

LAST_WAIT = 5.0
"""Seconds that lines on their way get to be confirmed once the run is to stop."""

BREATH = 1000
"""Lines after which the event loop gets its turn even if none of them is sent."""


def publish(
    exchange: Annotated[
        str, typer.Argument(metavar="EXCHANGE", help="Its name; '' is the default exchange.")
    ],
    key: Annotated[str, typer.Argument(metavar="KEY", help="The routing key of every message.")],
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
        bool,
        typer.Option(
            "--anew", help="Send every line, confirmed by an earlier run or not, as a new message."
        ),
    ] = False,
    journal: Annotated[
        Path | None,
        typer.Option(help="Where confirmed lines are noted. Default: FILE.published.jsonl"),
    ] = None,
    window: Annotated[
        int, typer.Option(help="Messages that may wait for their confirm at a time.", min=1)
    ] = 500,
    timeout: Annotated[
        float,
        typer.Option(
            help="Seconds in which a message must be confirmed.",
            min=0.1,
            callback=seconds_option(over=0),
        ),
    ] = DEFAULT_TIMEOUT,
    delay: Annotated[
        float,
        typer.Option(
            help="Seconds for which the broker holds each message, from when it is sent.",
            min=0,
            max=MAX_DELAY,
            callback=seconds_option(),
        ),
    ] = 0.0,
    header: HeaderOption = None,
    expiration: ExpirationOption = None,
    priority: PriorityOption = None,
    type_: TypeOption = None,
    id_field: IdOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Publish a file, each line confirmed by the broker; say which lines failed, and why.

    What is confirmed is noted in a journal, and --resume sends only the rest.
    A line is known by its number and content: append to the file as you like,
    but a line that changed or moved is a new message. Ctrl-C and SIGTERM wait
    some seconds for what is on its way; a second one does not.

    Message ids belong to the journal: a run that goes on with it sends a line
    under the id that it had, and no other file's line has that. --anew begins
    another journal, and so does a run without the old one: the same lines are
    new messages then, which a handler takes for others. With --id they are the
    file's own; a line without one, or with that of a line before it, fails.

    If this process is killed outright, lines whose confirm was still on its
    way, as many as --window at most, may be stored and not noted; after a
    crash of the machine, those of its last seconds too. --resume sends them
    again, under the same message ids.

    With --delay a line is confirmed when the broker holds its message, which
    cannot be called back; it goes to the exchange once its time has come.

    Exit code 0: every line is confirmed; 1: some are not; 2: called wrongly;
    130: interrupted.
    """
    broker = broker_url(url)
    if resume and anew:
        raise ConfigurationError("--resume and --anew exclude each other")
    _check_target(exchange, key)
    properties = chosen(
        header=header, expiration=expiration, priority=priority, type_=type_, id_field=id_field
    )
    properties.check(exchange, key, delay or None)
    total = count_lines(file)
    path = journal or file.with_name(f"{file.name}.published.jsonl")
    if path.exists() and path.samefile(file):
        raise JournalError(f"--journal {path} is the file that is to be published")
    shown = ProgressDisplay(total)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[shown.log_handler()])
    with Journal(path, exchange=exchange, routing_key=key, resume=resume, anew=anew) as notes:
        run = _Run(file, exchange, key, notes, shown, properties, delay or None)
        summary = asyncio.run(run.publish(broker, window=window, timeout=timeout))
    report(summary, as_json=as_json)
    if summary.interrupted:
        raise typer.Exit(INTERRUPTED)
    raise typer.Exit(0 if summary.is_complete else FAILED)


class _Run:
    """Publishes one file; what is on its way is waited for before it ends."""

    def __init__(
        self,
        file: Path,
        exchange: str,
        key: str,
        journal: Journal,
        shown: ProgressDisplay,
        properties: Chosen,
        delay: float | None,
    ) -> None:
        self._file = file
        self._exchange = exchange
        self._key = key
        self._journal = journal
        self._summary = Summary(journal.path)
        self._shown = shown
        self._properties = properties
        self._delay = delay
        self._connected = False
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._given = 0
        self._sent: dict[int, tuple[int, bytes]] = {}
        """Line number and hash of what `publish_many` was given and has not answered, by index."""

    async def publish(self, broker: BrokerUrl, *, window: int, timeout: float) -> Summary:  # noqa: ASYNC109
        """Publish the lines until the end, a signal, or an error that all would meet.

        :raises ConnectError: no connection within `CONNECT_DEADLINE`, or this user is refused
        """
        for number in STOPPING:
            on_signal(number, self._interrupt)
        work = asyncio.create_task(self._work(broker, window=window, timeout=timeout))
        stop = asyncio.create_task(self._stop.wait())
        hurry = asyncio.create_task(self._hurry.wait())
        await asyncio.wait([work, stop], return_when=asyncio.FIRST_COMPLETED)
        if self._connected:
            await asyncio.wait(
                [work, hurry], timeout=LAST_WAIT, return_when=asyncio.FIRST_COMPLETED
            )
        for task in (work, stop, hurry):
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work
        self._summary.unknown = len(self._sent)
        return self._summary

    def _interrupt(self) -> None:
        if self._summary.interrupted:
            self._hurry.set()
        self._summary.interrupted = True
        self._stop.set()

    async def _work(self, broker: BrokerUrl, *, window: int, timeout: float) -> None:  # noqa: ASYNC109
        connection = Connection(broker, name=APP_ID, driver=drivers.named())
        try:
            await connection.open(CONNECT_DEADLINE)
            self._connected = True
            publisher = Publisher.on(connection, app_id=APP_ID, window=window)
            started = time.monotonic()
            with self._shown:
                try:
                    results = publisher.publish_many(
                        self._messages(), window=window, timeout=timeout
                    )
                    async for result in results:
                        self._take(result)
                finally:
                    self._summary.seconds = time.monotonic() - started
                    self._shown.end(self._summary)
        finally:
            if not self._hurry.is_set():
                await connection.close()

    async def _messages(self) -> AsyncIterator[Outgoing]:
        with self._file.open("rb") as file:
            for count, line in enumerate(read_lines(file), start=1):
                if count % BREATH == 0:
                    await asyncio.sleep(0)
                    self._shown.show(self._summary)
                if self._stop.is_set():
                    return
                self._summary.lines += 1
                digest = line_hash(line.body)
                problem, message_id = line.problem, None
                try:
                    if not problem:
                        message_id = self._properties.id_of(line.number, line.body)
                except LineError as error:
                    problem = str(error)
                if self._journal.has(line.number, digest):
                    self._summary.skipped += 1
                elif problem:
                    self._fail(line.number, digest, problem)
                else:
                    self._summary.changed += self._journal.changed(line.number, digest)
                    self._sent[self._given] = (line.number, digest)
                    self._given += 1
                    message_id = message_id or self._journal.message_id(line.number, digest)
                    yield self._properties.message(
                        self._exchange, self._key, line.body, message_id, self._delay
                    )

    def _take(self, result: PublishResult) -> None:
        number, digest = self._sent.pop(result.index)
        if result.error is None:
            self._summary.confirmed += 1
            try:
                self._journal.confirmed(number, digest)
            except OSError as error:
                self._cannot_note(error)
            self._summary.unnoted += self._journal.is_broken
        else:
            self._fail(number, digest, str(getattr(result.error, "problem", result.error)))
            if _meets_every_line(result.error):
                self._end(str(getattr(result.error, "problem", result.error)))
        self._shown.show(self._summary)

    def _fail(self, number: int, digest: bytes, problem: str) -> None:
        self._summary.fail(number, problem)
        try:
            self._journal.failed(number, digest, problem)
        except OSError as error:
            self._cannot_note(error)

    def _cannot_note(self, error: OSError) -> None:
        self._end(f"the journal {self._journal.path} cannot be written: {error.strerror}")

    def _end(self, why: str) -> None:
        self._summary.stopped_by = self._summary.stopped_by or why
        self._stop.set()


def _meets_every_line(error: MqkitError) -> bool:
    """Tell whether the next line would fail alike: all go to one place over one connection."""
    if isinstance(error, PublishRefusedError):
        return "ACCESS_REFUSED" in error.problem  # and not a message that is too large
    return isinstance(
        error, ExchangeNotFoundError | BlockedError | PublishTimeoutError | ConnectionLostError
    )


def _check_target(exchange: str, key: str) -> None:
    for name, value in (("EXCHANGE", exchange), ("KEY", key)):
        try:
            size = len(value.encode())
        except UnicodeEncodeError as error:
            raise ConfigurationError(f"{name} {value!r} is not UTF-8") from error
        if size > MAX_SHORT:
            raise ConfigurationError(f"{name} is over {MAX_SHORT} bytes long")
