"""Which event loop `mqkit run` runs a service on."""

from __future__ import annotations

import asyncio
import difflib
from importlib import import_module
from importlib.util import find_spec

from mqkit.errors import ConfigurationError

UVLOOP = "uvloop"
ASYNCIO = "asyncio"
NAMES = (UVLOOP, ASYNCIO)


def check_loop(name: str | None) -> None:
    """See that there is such an event loop here.

    :raises ConfigurationError: there is none, or its package is not installed
    """
    if name is None:
        return
    if name not in NAMES:
        close = difflib.get_close_matches(name, NAMES, 1)
        hint = f"; did you mean {close[0]}?" if close else f"; there are {' and '.join(NAMES)}"
        raise ConfigurationError(f"there is no event loop {name!r}{hint}")
    if name == UVLOOP and find_spec(UVLOOP) is None:
        raise ConfigurationError(
            "--loop uvloop needs a library that is not installed: pip install 'mqkit[uvloop]'"
        )


def runner(name: str | None) -> asyncio.Runner:
    """What runs a coroutine on this event loop; None is uvloop where it is installed.

    :raises ConfigurationError: there is no such loop here
    """
    check_loop(name)
    if name is None:
        name = ASYNCIO if find_spec(UVLOOP) is None else UVLOOP
    # By its name: uvloop is an extra, and not there on Windows.
    return asyncio.Runner(
        loop_factory=import_module(UVLOOP).new_event_loop if name == UVLOOP else None
    )
