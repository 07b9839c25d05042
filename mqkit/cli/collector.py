"""Python's garbage collector in a process that runs a service, or a broker, and nothing else."""

from __future__ import annotations

import gc

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


def spare_collector() -> None:
    """Let the collector look less often, and not at what was imported.

    A setting of the service's own is kept where it is higher, or where it has turned the collector
    off. For processes that are mqkit's own: it holds for all that runs in them.
    """
    gc.freeze()
    first, *others = gc.get_threshold()
    if gc.isenabled() and 0 < first < THRESHOLD:
        gc.set_threshold(THRESHOLD, *others)


def spare_broker() -> None:
    """Let the collector look less often, and seldom at what the broker holds for long."""
    spare_collector()
    if gc.isenabled():
        first, second, full = gc.get_threshold()
        gc.set_threshold(first, second, max(full, FULL))
