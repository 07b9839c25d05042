from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mqkit.testing.brokers.watchdog import Watchdog

HOLDER = """
import sys, time
from mqkit.testing.brokers.watchdog import Watchdog
watchdog = Watchdog(f"touch {sys.argv[1]}")
print("ready", flush=True)
time.sleep(100)
"""


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_it_cleans_up_however_its_process_ends(tmp_path: Path, signum: signal.Signals) -> None:
    """The command runs when the process is gone, and not before."""
    cleaned = tmp_path / "cleaned"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(cleaned)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        assert not cleaned.exists()
        process.send_signal(signum)
        process.wait()
    deadline = time.monotonic() + 10
    while not cleaned.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_once_dismissed_it_does_nothing(tmp_path: Path) -> None:
    """The command does not run, and no process is left; dismissing it again is no error."""
    watchdog = Watchdog(f"touch {tmp_path}/cleaned")
    watchdog.dismiss()
    watchdog.dismiss()
    assert watchdog._shell.returncode == -signal.SIGKILL
    assert not (tmp_path / "cleaned").exists()
