"""Python's garbage collector in a process that runs a service and nothing else."""

from __future__ import annotations

import gc

THRESHOLD = 10_000
"""New objects after which the collector looks for cycles; Python's own default is 700, and
2,000 from 3.13 on.

A message's objects are no garbage while its handler waits. With some hundred of them under way,
looking at them again and again takes more time than handling them."""


def spare_collector() -> None:
    """Let the collector look less often, and not at what was imported.

    A setting of the service's own is kept where it is higher, or where it has turned the collector
    off. For processes that are mqkit's own: it holds for all that runs in them.
    """
    gc.freeze()
    first, *others = gc.get_threshold()
    if gc.isenabled() and 0 < first < THRESHOLD:
        gc.set_threshold(THRESHOLD, *others)
