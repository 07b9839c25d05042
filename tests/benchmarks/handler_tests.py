"""How long a suite of 100 handler tests takes on the embedded broker.

    python -m tests.benchmarks.handler_tests [--rounds 3]

Each test runs a service on a virtual host of its own, publishes to it and waits for the outcome;
a third of them retry after an hour on the broker's clock, a third are dead-lettered. The time is
that of the whole pytest process, which an application would wait for.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

TESTS = """
import pytest
from tenacity import stop_after_attempt, wait_fixed
from mqkit import Delivery, Exchange, Publisher, Queue, Reject, Retry, Service

orders = Exchange("orders", type="topic")
service = Service("shop", retry=Retry(stop=stop_after_attempt(3), wait=wait_fixed(3600)))


@service.handler(Queue("shop.orders"), bind=[orders.key("order.#")])
async def accept(order: dict, delivery: Delivery, publisher: Publisher) -> None:
    if order["kind"] == "refused":
        raise Reject("no such account")
    if order["kind"] == "later" and delivery.attempt == 1:
        raise ConnectionError("not yet")


@pytest.mark.parametrize("number", range(100))
async def test_an_order(mqkit_harness, number):
    kind = ("accepted", "refused", "later")[number % 3]
    async with mqkit_harness(service) as h:
        message = await h.publish(orders, "order.new", {"kind": kind})
        if kind == "later":
            await h.advance(3600)
        result = await h.outcome(message)
        assert result.acked is (kind != "refused")
"""


def main() -> None:
    """Print the seconds of each round."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=3)
    rounds = options.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "test_orders.py"
        path.write_text(TESTS)
        (Path(folder) / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto\n")
        seconds = []
        for _ in range(rounds):
            begun = time.perf_counter()
            done = subprocess.run(
                [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(path)],
                cwd=folder,
                capture_output=True,
                text=True,
                check=False,
            )
            seconds.append(time.perf_counter() - begun)
            if done.returncode:
                sys.exit(done.stdout + done.stderr)
    told = ", ".join(f"{each:.2f}" for each in seconds)
    sys.stdout.write(
        f"100 handler tests: {statistics.median(seconds):.2f} s (median of {told})\n"
        f"mqkit {version('mqkit')}, Python {platform.python_version()}, "
        f"{platform.machine()}\n"
    )


if __name__ == "__main__":
    main()
