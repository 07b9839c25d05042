"""Counts the memory that messages take, and raises an alarm above a limit.

https://www.rabbitmq.com/docs/memory: above a share of the memory RabbitMQ raises an alarm, under
which it reads no further from connections that publish. What is counted here is what the broker
holds, not the process: memory that Python keeps for later use would hold an alarm up for ever.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

from mqkit.embedded.engine.message import Message

SHARE = 0.4
"""Of the machine's memory, or of the control group's, that messages may take.

RabbitMQ's own is 0.6; this broker is rarely alone, and its count is an estimate.
"""

LOW = 0.9
"""Of the limit: below that an alarm ends. At the limit itself it would come and go all the time."""

ENTRY_BYTES = 150
"""What its place in one queue takes."""

UNLIMITED = 1 << 60
"""More than any control group has: how its first version says that there is no limit."""

UNITS = {"": 1, "B": 1} | {
    f"{letter}{suffix}": base**power
    for suffix, base in (("B", 1000), ("iB", 1024))
    for power, letter in enumerate("kMGT", 1)
}
"""Of bytes, as they may be written: kB is 1,000, kiB is 1,024."""

CGROUP = Path("/proc/self/cgroup")

CGROUPS = Path("/sys/fs/cgroup")


class Memory:
    """Counts bytes; `on_change` is called as the alarm begins (True) and ends (False)."""

    def __init__(self, limit: int | None, on_change: Callable[[bool], None]) -> None:
        self.limit = limit
        """Bytes; None is no limit."""
        self.used = 0
        self.is_high = False
        self._on_change = on_change

    def hold(self, message: Message) -> None:
        """Count a message that one more queue or transaction has."""
        self.used += ENTRY_BYTES if message.holders else ENTRY_BYTES + message.footprint
        message.holders += 1
        if not self.is_high and self.limit is not None and self.used > self.limit:
            self.is_high = True
            self._on_change(True)

    def let_go(self, message: Message) -> None:
        """Count a message that one queue or transaction fewer has."""
        message.holders -= 1
        self.used -= ENTRY_BYTES if message.holders else ENTRY_BYTES + message.footprint
        if self.is_high and self.limit is not None and self.used < self.limit * LOW:
            self.is_high = False
            self._on_change(False)


def limit_of(text: str) -> int:
    """Return the bytes of a limit such as `2GiB`, `500MB`, `1000000`, or `40%` of the memory.

    :raises ValueError: it is none of these, or a share where the system does not tell its memory
    """
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?(%|[A-Za-z]*)", text.strip())
    unit = "" if found is None else found[2].replace("K", "k")
    if found is None or (unit != "%" and unit not in UNITS):
        raise ValueError(f"{text!r} is no size such as 2GiB or 500MB, nor a share such as 40%")
    number = float(found[1])
    if unit != "%":
        return int(number * UNITS[unit])
    if not 0 < number <= 100:  # noqa: PLR2004 - all of it
        raise ValueError(f"{text!r} is no share of the memory: it is over 0% and up to 100%")
    memory = available()
    if memory is None:
        raise ValueError(f"{text!r}: this system does not tell its memory; give a size, as 2GiB")
    return int(memory * number / 100)


def default_limit() -> int | None:
    """Return a share of this machine's memory; None where the system does not tell it."""
    memory = available()
    return None if memory is None else int(memory * SHARE)


def available() -> int | None:
    """Return the bytes of memory of this machine or the control group, whichever is less."""
    return min((each for each in (physical(), *of_cgroups()) if each is not None), default=None)


def physical() -> int | None:
    """Return the bytes of memory of the machine; None where the system does not tell."""
    if sys.platform != "win32":
        with contextlib.suppress(ValueError, OSError):
            return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return None


def of_cgroups(cgroup: Path = CGROUP, root: Path = CGROUPS) -> list[int]:
    """Return the limits of the control groups that this process is in, of both versions.

    https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files
    """
    try:
        lines = cgroup.read_text().splitlines()
    except OSError:
        return []  # no control groups here
    found = []
    for line in lines:
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            found += _limits(root, path, "memory.max")
        elif "memory" in controllers.split(","):
            found += _limits(root / "memory", path, "memory.limit_in_bytes")
    return found


def _limits(root: Path, path: str, name: str) -> list[int]:
    """Return the limits of a group and its parents; a container may see its own as the root."""
    found = []
    inner = root / path.lstrip("/")
    for directory in (inner, *inner.parents):
        if directory.is_relative_to(root):
            try:
                text = (directory / name).read_text().strip()
            except OSError:
                continue  # the root group has no such file
            if text.isdecimal() and int(text) < UNLIMITED:
                found.append(int(text))
    return found
