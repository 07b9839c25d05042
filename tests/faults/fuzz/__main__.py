"""`python -m tests.faults.fuzz`: fuzz mqkit with messages and handlers, and tell what came of it.

    python -m tests.faults.fuzz --messages 10000 --seed 1 --driver pika --broker 4.3

A seed draws the same messages and the same handlers' doings each time. Exit codes: 0 all is as
promised; 1 not so.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table

from mqkit import drivers
from mqkit.testing.brokers.finder import EMBEDDED, BrokerSpec, find_brokers, start
from tests.faults.fuzz.account import end_of
from tests.faults.fuzz.mutants import MUTANTS
from tests.faults.fuzz.plans import DONE
from tests.faults.fuzz.run import Report, fuzz

HOLDS, BROKEN = 0, 1

VHOST = "mqkit-fuzz"

SHOWN = 25
"""Messages with which something is wrong that are told of."""

console = Console(width=140, soft_wrap=True, highlight=False, markup=False)


def main(argv: Sequence[str] | None = None) -> int:
    """Run it; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults.fuzz",
        description="Fuzz mqkit: every message must end exactly once, whatever handlers do.",
    )
    parser.add_argument("--messages", type=int, default=10_000, help="how many (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="what draws them (%(default)s)")
    parser.add_argument("--driver", choices=drivers.NAMES, default=drivers.DEFAULT)
    parser.add_argument(
        "--broker", default="4.3", help="a version that is found, or embedded (%(default)s)"
    )
    parser.add_argument("--url", help="a virtual host to use as it is, in the place of --broker")
    parser.add_argument("--mutant", choices=MUTANTS, help="a promise to break, to see it found")
    parser.add_argument(
        "--patience",
        type=float,
        default=8.0,
        help="seconds in which nothing happens, after which what is open never ends (%(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="say the verdict as JSON")
    options = parser.parse_args(argv)
    if options.mutant:
        MUTANTS[options.mutant].apply()
    with _url(options.url, options.broker) as url:
        report = fuzz(
            url,
            driver=options.driver,
            seed=options.seed,
            count=options.messages,
            prefix=f"fuzz-{options.seed}",
            patience=options.patience,
        )
    if options.json:
        sys.stdout.write(f"{json.dumps(_summary(report))}\n")
    else:
        show(report, f"{options.driver}, {'url' if options.url else options.broker}")
    return HOLDS if report.holds else BROKEN


@contextlib.contextmanager
def _url(url: str | None, label: str) -> Iterator[str]:
    """The URL of a virtual host that is this run's own."""
    if url is not None:
        yield url
        return
    with start(_spec(label)) as broker:
        name = f"{VHOST}-{os.getpid()}"
        yield broker.add_vhost(name)
        broker.delete_vhost(name)


def _spec(label: str) -> BrokerSpec:
    if label == EMBEDDED.label:
        return EMBEDDED
    found = find_brokers(os.environ)
    for spec in found:
        if label in (spec.label, spec.kind):
            return spec
    raise SystemExit(f"no broker {label!r}; there are {', '.join(s.label for s in found)}")


def _summary(report: Report) -> dict[str, object]:
    number, runs = report.account.worst
    return {
        "holds": report.holds,
        "messages": len(report.messages),
        "seconds": round(report.seconds, 1),
        "ends": dict(report.account.ends()),
        "worst": {"message": number, "runs": runs, "plan": str(report.messages[number].plan)},
        "problems": _told(report),
        "faults": report.faults[:SHOWN],
        "critical": dict(report.critical),
    }


def _told(report: Report) -> list[str]:
    problems = report.account.problems()
    return [
        f"{_what(report, number)}: {'; '.join(found)}"
        for number, found in list(problems.items())[:SHOWN]
    ]


def _what(report: Report, number: int) -> str:
    message = report.messages[number]
    return f"message {number} to {message.lane}, {message.plan} ({message.content})"


def show(report: Report, where: str) -> None:
    """Print what the run has shown."""
    account = report.account
    problems = account.problems()
    rows: dict[str, Counter[str]] = defaultdict(Counter)
    most: dict[str, tuple[int, int]] = defaultdict(lambda: (0, 0))
    for message in report.messages:
        record, row = account.records[message.number], message.plan.act
        end = end_of(record)
        rows[row]["messages"] += 1
        rows[row][end if end == DONE else "dead" if len(record.dead) == 1 else "wrong"] += 1
        rows[row]["problems"] += message.number in problems
        runs, deliveries = most[row]
        most[row] = max(runs, record.runs), max(deliveries, record.deliveries)
    table = Table(
        "what is done",
        "messages",
        "done",
        "dead",
        "not as promised",
        "runs, most",
        "deliveries, most",
    )
    for row, counts in sorted(rows.items()):
        table.add_row(
            row,
            *(str(counts[name]) for name in ("messages", "done", "dead", "problems")),
            *map(str, most[row]),
        )
    console.print(table)
    ends = Table("end", "messages")
    for end, count in account.ends().most_common():
        ends.add_row(end, str(count))
    console.print(ends)
    number, runs = account.worst
    console.print(
        f"{len(report.messages)} messages in {report.seconds:.1f} s ({where}); "
        f"connections lost: {report.lost}; processor time of 1.5 idle seconds: "
        f"{report.processor:.3f} s; most runs of a message: {runs} ({_what(report, number)}); "
        f"log records that could not be written: {report.unwritten}"
    )
    for text, times in report.critical.most_common():
        console.print(f"critical, {times} times: {text}")
    for told in _told(report):
        console.print(told)
    for fault in report.faults[:SHOWN]:
        console.print(f"fault: {fault}")
    console.print(
        "all is as promised"
        if report.holds
        else f"NOT as promised: {len(problems)} messages, {len(report.faults)} faults"
    )


if __name__ == "__main__":
    sys.exit(main())
