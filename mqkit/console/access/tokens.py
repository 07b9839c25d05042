"""Compares what a browser shows with the token, slowly where it is wrong; and makes login links."""

from __future__ import annotations

import asyncio
import hmac
import secrets
from collections.abc import Callable

from pydantic import SecretStr

from mqkit.clock import monotonic

SLOWED_BY = 1.0
"""Seconds that a wrong token is answered after."""

MOST_WAITING = 5
"""Wrong tokens that wait for their answer; meanwhile, no more are looked at."""

LINK_LIFETIME = 600.0
"""Seconds for which a login link can be used."""


class Door:
    """Lets in who shows the token, or the one login link."""

    def __init__(
        self,
        token: SecretStr,
        *,
        clock: Callable[[], float] = monotonic,
        slowed_by: float = SLOWED_BY,
    ) -> None:
        self._token = token.get_secret_value().encode()
        self._clock = clock
        self._slowed_by = slowed_by
        self._waiting = 0
        self._code: bytes | None = None
        self._code_ends_at = 0.0

    def code(self) -> str:
        """Make the code of a link that opens the console once; a former one opens it no more."""
        code = secrets.token_urlsafe(32)
        self._code, self._code_ends_at = code.encode(), self._clock() + LINK_LIFETIME
        return code

    @property
    def is_overrun(self) -> bool:
        """Whether too many wrong tokens wait for their answers: until then none is compared."""
        return self._waiting >= MOST_WAITING

    async def takes(self, given: str) -> bool:
        """Whether this is the token; that it is not is said a second later."""
        if not self.is_overrun and hmac.compare_digest(_bytes(given), self._token):
            return True
        await self._slow()
        return False

    async def takes_code(self, given: str) -> bool:
        """Whether this is a login link's code, which it is once."""
        code = self._code
        is_open = code is not None and self._clock() < self._code_ends_at
        if is_open and not self.is_overrun and hmac.compare_digest(_bytes(given), code or b""):
            self._code = None
            return True
        await self._slow()
        return False

    async def _slow(self) -> None:
        if self.is_overrun:
            return
        self._waiting += 1
        try:
            await asyncio.sleep(self._slowed_by)
        finally:
            self._waiting -= 1


def _bytes(given: str) -> bytes:
    return given.encode("utf-8", "surrogatepass")
