"""`python -m handlers summary`, where there is no monitor to ask; a walkthrough has the rest."""

from __future__ import annotations

import os
import subprocess

from mqkit.testing.brokers import Broker
from tests.forked import finished


def summary(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "MQKIT_URL"}
    return finished(["summary", *arguments], environment, module="handlers", within=100)


def test_a_summary_without_a_broker_is_a_wrong_call() -> None:
    """The exit code is 2, and one line says what to give."""
    done = summary()
    assert done.returncode == 2
    assert done.stderr == "handlers: which broker? Give --url, or set MQKIT_URL\n"


def test_a_monitor_that_does_not_run_is_said(mqkit_embedded: Broker) -> None:
    """The exit code is 1, and one line says that no queue is there."""
    done = summary("--url", mqkit_embedded.url)
    assert done.returncode == 1
    assert "monitoring.summary" in done.stderr
    assert "no queue is bound for it" in done.stderr
    assert "Traceback" not in done.stderr
