"""`python -m tests.conformance.suite`: runs the suite, and reports what held where.

Exit codes: 0 every case passed or is declared as lacking; 1 one failed, or a broker could not be
had; 2 it was called wrongly.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from mqkit.drivers.pika.convert import quiet_pika
from mqkit.errors import BrokerError, ConfigurationError
from tests.conformance.suite.clients import CLIENTS, client_of
from tests.conformance.suite.env import Target
from tests.conformance.suite.runner import CASE_TIMEOUT, Result, run
from tests.conformance.suite.suite import collect, select
from tests.conformance.suite.table import put_into, table
from tests.conformance.suite.targets import opened, specs

DONE, FAILED, WRONG = 0, 1, 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run the suite as the arguments say; returns the exit code."""
    options = _parser().parse_args(argv)
    try:
        cases = select(collect(), options.case)
        clients = [client_of(label) for label in options.client] or list(CLIENTS.values())
        targets: list[Target] = []
        results: list[Result] = []
        for spec in specs(options.broker):
            with opened(spec) as target:
                targets.append(target)
                for client in clients:
                    _say(f"--- {target.label} ({target.version}), {client.label}")
                    results += asyncio.run(
                        run(
                            target,
                            client,
                            cases,
                            timeout=options.timeout,
                            parallel=options.parallel,
                            check_lacks=options.check_lacks,
                            on_result=_tell if options.verbose else _tell_failure,
                        )
                    )
        _report(options, results, targets)
    except ConfigurationError as error:
        _say(str(error))
        return WRONG
    except BrokerError as error:
        _say(str(error))
        return FAILED
    return FAILED if any(result.verdict == "failed" for result in results) else DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.conformance.suite",
        description="What AMQP 0-9-1 and RabbitMQ promise, checked on brokers and clients.",
    )
    parser.add_argument(
        "--broker",
        action="append",
        default=[],
        metavar="WHICH",
        help="4.3 (a container), amqp://..., or LABEL=amqp://...; more than one may be given",
    )
    parser.add_argument(
        "--client", action="append", default=[], help=f"one of: {', '.join(CLIENTS)}"
    )
    parser.add_argument(
        "--case", action="append", default=[], metavar="GLOB", help="cases by id, or by area"
    )
    parser.add_argument("--json", type=Path, metavar="PATH", help="write every result there")
    parser.add_argument("--table", action="store_true", help="print the Markdown table")
    parser.add_argument(
        "--into", type=Path, metavar="FILE", help="put the table between the marks of this file"
    )
    parser.add_argument(
        "--check-lacks", action="store_true", help="run what is declared as lacking: it must fail"
    )
    parser.add_argument(
        "--timeout", type=float, default=CASE_TIMEOUT, help="seconds for one case (%(default)s)"
    )
    parser.add_argument("--parallel", type=int, help="cases at a time")
    parser.add_argument("-v", "--verbose", action="store_true", help="tell every case")
    return parser


def _report(
    options: argparse.Namespace, results: Sequence[Result], targets: Sequence[Target]
) -> None:
    text = table(results, targets)
    if options.table:
        sys.stdout.write(text + "\n")
    if options.into is not None:
        put_into(options.into, f"{text}\n\n{_origin(options, results, targets)}")
    if options.json is not None:
        options.json.write_text(json.dumps([_plain(r) for r in results], indent=1) + "\n")
    seconds = sum(result.seconds for result in results)
    counts = ", ".join(
        f"{sum(r.verdict == verdict for r in results)} {verdict}"
        for verdict in ("passed", "failed", "lacks")
    )
    _say(f"{counts}; {seconds:.1f} s of cases")


def _origin(
    options: argparse.Namespace, results: Sequence[Result], targets: Sequence[Target]
) -> str:
    """Say what the table is and how it was made.

    Brokers are named by their labels, since URLs hold passwords, and a file of elsewhere by its
    name alone.
    """
    cases = len({result.case.id for result in results})
    words = [f"--broker={target.label}" for target in targets]
    words += [f"--client={label}" for label in options.client]
    words += [f"--case={pattern}" for pattern in options.case]
    into: Path = options.into
    words += [f"--into={into.name if into.is_absolute() else into.as_posix()}"]
    return (
        f"{cases} cases; a cell is passed/run, and what the broker is declared to lack. Made by "
        f"`python -m tests.conformance.suite {shlex.join(words)}`."
    )


def _plain(result: Result) -> dict[str, object]:
    return {
        "case": result.case.id,
        "sentence": result.case.sentence,
        "area": result.case.area,
        "broker": result.broker,
        "client": result.client,
        "verdict": result.verdict,
        "seconds": round(result.seconds, 3),
        "error": result.error,
    }


def _tell(result: Result) -> None:
    _say(f"{result.verdict} {result.seconds:6.2f} s  {result.case.id}  {result.error}".rstrip())


def _tell_failure(result: Result) -> None:
    if result.verdict == "failed":
        _tell(result)
        _say(f"       {result.case.sentence}")


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


if __name__ == "__main__":
    quiet_pika()
    logging.getLogger("aiormq").setLevel(logging.CRITICAL)  # it warns of what the cases provoke
    sys.exit(main())
