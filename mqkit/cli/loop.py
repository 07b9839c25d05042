"""Sets up the event loop and the garbage collector of a process that is mqkit's own."""

from __future__ import annotations

import asyncio
import difflib
import gc
from importlib import import_module
from importlib.util import find_spec

from mqkit.errors import ConfigurationError

UVLOOP = "uvloop"
ASYNCIO = "asyncio"
NAMES = (UVLOOP, ASYNCIO)

THRESHOLD = 10_000
"""New objects after which the collector looks for cycles; Python's own default is 700, and
2,000 from 3.13 on.

A message's objects are no garbage while its handler waits. With some hundred of them under way,
looking at them again and again takes more time than handling them."""

FULL = 100
"""For a broker: times that it looks at what is new or younger before it looks at all there is.

What waits in queues is no garbage, and goes without the collector. To look at a million messages
takes seconds, in which nobody is served; Python's own default is 10.
"""


def check_loop(name: str | None) -> None:
    """Check that there is such an event loop here.

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
    """Make a runner on this event loop; None is uvloop where it is installed.

    :raises ConfigurationError: there is no such loop here
    """
    check_loop(name)
    if name is None:
        name = ASYNCIO if find_spec(UVLOOP) is None else UVLOOP
    # By its name: uvloop is an extra, and not there on Windows.
    return asyncio.Runner(
        loop_factory=import_module(UVLOOP).new_event_loop if name == UVLOOP else None
    )


def tune_collector(*, holds_much: bool = False) -> None:
    """Make the garbage collector run less often, and leave out what was imported.

    A setting of the service's own is kept where it is higher, or where it has turned the collector
    off. For processes that are mqkit's own: it holds for all that runs in them.

    :param holds_much: look seldom at what is held for long, such as a broker's messages
    """
    gc.freeze()
    first, second, full = gc.get_threshold()
    if gc.isenabled() and first > 0:
        gc.set_threshold(max(first, THRESHOLD), second, max(full, FULL) if holds_much else full)
