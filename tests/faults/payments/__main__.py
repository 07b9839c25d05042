"""`python -m tests.faults.payments`: many orders under faults, on RabbitMQ and PostgreSQL.

Exit codes: 0 everything holds; 1 it does not; 2 it was called wrongly; 130 it was interrupted.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from handlers.demo.report import print_report
from handlers.demo.run import DemoError
from handlers.running.processes import ProcessError
from mqkit.errors import MqkitError
from tests.faults.payments.run import own_broker, own_postgres, run
from tests.faults.payments.trouble import InvariantError

DONE, FAILED, INTERRUPTED = 0, 1, 130


def main() -> int:
    """Run as the arguments say; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.payments", description=__doc__)
    parser.add_argument("--orders", type=int, default=10_000)
    parser.add_argument("--accounts", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1993)
    parser.add_argument("--every", type=float, default=5.0, help="seconds between two faults")
    parser.add_argument("--broker", default="4.3", help="RabbitMQ's version (%(default)s)")
    parser.add_argument("--logs", type=Path, help="keep the services' logs there")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the figures there, too")
    options = parser.parse_args()
    folder = options.logs or Path(tempfile.mkdtemp(prefix="mqkit-payments-"))
    folder.mkdir(parents=True, exist_ok=True)
    console = Console(stderr=True)
    # As Ctrl-C: the services, the broker and the database are ended with it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with own_broker(options.broker) as broker, own_postgres() as postgres:
            outcome = run(
                broker,
                postgres,
                folder,
                orders=options.orders,
                accounts=options.accounts,
                seed=options.seed,
                every=options.every,
                console=console,
            )
    except (InvariantError, DemoError, ProcessError, MqkitError) as error:
        console.print(f"{error}; the logs are in {folder}", markup=False, soft_wrap=True)
        return FAILED
    except KeyboardInterrupt:
        console.print(f"interrupted; the logs are in {folder}", markup=False, soft_wrap=True)
        return INTERRUPTED
    print_report(outcome.report, Console())
    console.print(f"faults: {outcome.faults}; the logs are in {folder}", soft_wrap=True)
    if options.json is not None:
        options.json.write_text(json.dumps(outcome.as_json(), indent=1) + "\n")
    return DONE if outcome.report.adds_up else FAILED


if __name__ == "__main__":
    sys.exit(main())
