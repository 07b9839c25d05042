"""Message ids that are given where a publisher gives none."""

from __future__ import annotations

import os
import uuid

AT_A_TIME = 256
"""Ids whose random bits are asked of the system at once: a call costs more than the bits."""


class MessageIds:
    """Random UUIDs of version 4 (RFC 9562, section 5.4), one for each call.

    For one process: a fork would give the same ones again. Whoever has it has a connection to
    the broker, too, which does not live in two processes either.
    """

    def __init__(self) -> None:
        self._bits = b""
        self._used = 0

    def __call__(self) -> str:
        if self._used == len(self._bits):
            self._bits, self._used = os.urandom(16 * AT_A_TIME), 0
        start, self._used = self._used, self._used + 16
        return str(uuid.UUID(bytes=self._bits[start : self._used], version=4))
