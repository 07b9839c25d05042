"""Freezes containers, which an engine refuses at times."""

from __future__ import annotations

import time
from typing import Any

from docker.errors import APIError

REFUSED = "unable to freeze"
"""What the kernel's answer is called where a process of the container could not be stopped in time,
one that was just being made or waited for a disk: the engine lets all go on then."""


def freeze(container: Any, within: float = 15.0, every: float = 0.2) -> None:
    """Pause a container of docker's; where the engine cannot at that moment, it is asked again.

    :raises APIError: it could not within so many seconds, or refused for another reason
    """
    deadline = time.monotonic() + within
    while True:
        try:
            container.pause()
        except APIError as error:
            if REFUSED not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(every)
        else:
            return
