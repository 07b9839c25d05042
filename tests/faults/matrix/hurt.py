"""What is done to a broker's node from outside, beside `kill`, `stop`, `start` and `ctl`."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator

from mqkit.testing.broker import Broker
from mqkit.testing.containers import ContainerBroker
from mqkit.testing.nodes import NodeBroker


@contextlib.contextmanager
def hanging(broker: Broker) -> Iterator[None]:
    """Stop the node's processes in mid-air (SIGSTOP), and let them go on at the end (SIGCONT).

    Its sockets stay open, and the system goes on to take bytes for them.
    """
    if isinstance(broker, ContainerBroker):
        container = broker._wrapped
        container.pause()
        try:
            yield
        finally:
            container.unpause()
    elif isinstance(broker, NodeBroker) and broker._node is not None:
        group = broker._node.pid
        os.killpg(group, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(group, signal.SIGCONT)
    else:
        raise TypeError(f"{broker!r} cannot be stopped: it is not ours")


@contextlib.contextmanager
def alarm(broker: Broker, kind: str) -> Iterator[None]:
    """Raise the 'memory' or 'disk' alarm by its limit, as an operator's mistake would."""
    command, low, usual = {
        "memory": ("set_vm_memory_high_watermark", "0.0001", "0.6"),
        "disk": ("set_disk_free_limit", "1000000GB", "50MB"),
    }[kind]
    broker.ctl(command, low)
    try:
        yield
    finally:
        broker.ctl(command, usual)
