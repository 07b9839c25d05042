"""Message ids that are given where a publisher gives none."""

from __future__ import annotations

import os

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
        # Written out: `str(uuid.UUID(bytes=..., version=4))` takes four times as long.
        digits = self._bits[start : self._used].hex()
        return (
            f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-"
            f"{_VARIANT[digits[16]]}{digits[17:20]}-{digits[20:]}"
        )


_VARIANT = dict(zip("0123456789abcdef", "89ab" * 4, strict=True))
"""A hexadecimal digit with its two highest bits set to those of the RFC's variant."""
