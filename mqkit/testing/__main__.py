"""`python -m mqkit.testing`: say which brokers the tests would run on, and fetch their images.

Exit codes: 0 there is one; 1 there is none, or its image cannot be pulled; 2 a variable that
steers the search is malformed.
"""

from __future__ import annotations

import os
import sys

from mqkit.errors import BrokerError, ConfigurationError
from mqkit.testing.brokers.containers import Engine
from mqkit.testing.brokers.finder import BrokerSpec, find_brokers


def main() -> int:
    """Find brokers; a missing image is pulled here, where it may take its time."""
    try:
        for spec in find_brokers(os.environ):
            _say(f"broker for tests: {spec}")
            _fetch(spec)
    except ConfigurationError as exc:
        _say(str(exc))
        return 2
    except BrokerError as exc:
        _say(str(exc))
        return 1
    return 0


def _fetch(spec: BrokerSpec) -> None:
    if spec.kind != "container":
        return
    engine = Engine()
    try:
        if not engine.has(spec.target):
            _say(f"pulling {spec.target}")
            engine.pull(spec.target)
    finally:
        engine.close()


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main())
