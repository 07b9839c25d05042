"""The command: reads its options or a running service, plans, and tells the plan."""

from __future__ import annotations

import json
import math
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from mqkit.capacity.live import Measured, measured
from mqkit.capacity.plan import ROUND_TRIP, plan
from mqkit.capacity.queueing import Load
from mqkit.checks.checked import as_number, seconds
from mqkit.cli.capacity.scrape import checked_address, scrape
from mqkit.cli.capacity.told import as_json_object, lines_of, plot_of
from mqkit.cli.exit_codes import FAILED
from mqkit.errors import ConfigurationError, OptionError

QUANTILE = 0.99

WATCHED = 10.0
"""Seconds between the two readings of a running service."""


def capacity(
    *,
    rate: Annotated[
        float | None,
        typer.Option(help="Messages per second that are published.", show_default=False),
    ] = None,
    service_time: Annotated[
        float | None,
        typer.Option(
            help="Seconds that a run of the handler takes, on average.", show_default=False
        ),
    ] = None,
    deadline: Annotated[
        float | None,
        typer.Option(
            help="Seconds that a message may wait in its queue until its handler begins.",
            show_default=False,
        ),
    ] = None,
    quantile: Annotated[
        float, typer.Option(help="The share of the messages that the deadline is for.")
    ] = QUANTILE,
    cv: Annotated[
        float | None,
        typer.Option(
            help="The spread of the service time: its standard deviation divided by its mean. "
            "Default: 1, as of an exponential distribution.",
            show_default=False,
        ),
    ] = None,
    variance: Annotated[
        float | None,
        typer.Option(help="The same as a variance, in seconds squared.", show_default=False),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            help="How many workers there are: over all processes, so many runs at a time. "
            "Default: as few as hold the deadline.",
            show_default=False,
        ),
    ] = None,
    processes: Annotated[int, typer.Option(help="Over how many processes they are spread.")] = 1,
    backlog: Annotated[int, typer.Option(help="Messages that wait already.")] = 0,
    round_trip: Annotated[
        float,
        typer.Option(help="Seconds from an ack to the next delivery, for the prefetch."),
    ] = ROUND_TRIP,
    live: Annotated[
        str | None,
        typer.Option(
            metavar="QUEUE",
            help="Take rate, service time and spread of this queue from a running service.",
            show_default=False,
        ),
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="With --live: where the service tells its metrics, http://host:port/metrics.",
            show_default=False,
        ),
    ] = None,
    watch: Annotated[
        float, typer.Option(help="With --live: seconds that the service is watched.")
    ] = WATCHED,
    svg: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Draw how the wait grows with the rate, for these workers.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Tell how many workers a load and a deadline need, and how long messages wait.

    Messages come at random. With a spread other than 1 the waits are an approximation (M/G/c); with
    1 they are those of M/M/c. A load in bursts waits longer.

    Exit code 0: the workers hold the deadline; 1: they do not, or cannot do what comes, or the
    service could not be read; 2: called wrongly.
    """
    known = None
    if live is not None or metrics is not None:
        known = _measure(live, metrics, watch, rate=rate, service_time=service_time)
    load = _load(known, rate, service_time, cv=cv, variance=variance)
    made = plan(
        load,
        deadline=deadline,
        quantile=quantile,
        workers=workers,
        backlog=backlog,
        processes=processes,
        round_trip=round_trip,
    )
    if svg is not None:
        _write(svg, plot_of(made))
    if as_json:
        typer.echo(json.dumps(as_json_object(made, known), indent=2))
    else:
        typer.echo("\n".join(lines_of(made, known)))
    if not made.holds:
        sys.exit(FAILED)


def _load(
    known: Measured | None,
    rate: float | None,
    service_time: float | None,
    *,
    cv: float | None,
    variance: float | None,
) -> Load:
    if cv is not None and variance is not None:
        raise OptionError("give --cv or --variance, not both: they say the same")
    if known is not None:
        rate, service_time = known.load.rate, known.load.service_time
        cv = known.load.cv if cv is None and variance is None else cv
    if rate is None or service_time is None:
        raise OptionError(
            "give --rate (messages per second) and --service-time (seconds of a run), or --live "
            "QUEUE --metrics URL to take them from a running service"
        )
    if variance is not None:
        number = as_number(variance)
        if number is None or number < 0:
            raise OptionError(f"--variance is a number, 0 or more, not {variance}")
        Load(rate, service_time)  # its own errors first
        cv = math.sqrt(number) / service_time
    return Load(rate, service_time, 1.0 if cv is None else cv)


def _measure(
    queue: str | None,
    address: str | None,
    watch: float,
    *,
    rate: float | None,
    service_time: float | None,
) -> Measured:
    if queue is None or address is None:
        raise OptionError(
            "--live QUEUE and --metrics URL belong together: the queue, and where its service "
            "tells its metrics"
        )
    if rate is not None or service_time is not None:
        raise OptionError("--live takes rate and service time from the service: leave out both")
    watched = seconds(watch, "--watch", over=0, most=3600)
    address = checked_address(address)
    began = time.monotonic()
    before = scrape(address)
    time.sleep(watched)
    after = scrape(address)
    return measured(before, after, queue, time.monotonic() - began)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"--svg {path} cannot be written: {error.strerror}") from error
