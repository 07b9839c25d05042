"""Waits for what a service does, each time with a deadline and an error that says how far it is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from mqkit.checks import checked
from mqkit.checks.checked import Seconds
from mqkit.testing.harness.errors import HarnessTimeoutError
from mqkit.testing.harness.journeys import Journey, Journeys
from mqkit.testing.harness.outbox import Outbox

if TYPE_CHECKING:
    from mqkit.store.outbox import Unpublished

LOOK = 0.01
"""Seconds between two looks into an outbox that is not empty: nobody tells of a row that goes."""


class Deadline:
    """When a wait ends: so many seconds after it began."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = asyncio.get_running_loop().time() + seconds

    @property
    def left(self) -> float:
        """Return the seconds that are left; 0 or less when it has passed."""
        return self._end - asyncio.get_running_loop().time()


class Waiting:
    """Waits for a service's messages, and raises what ended the service meanwhile.

    `within` is in seconds, and `hint` says what to do about a retry that is due too late.
    """

    def __init__(self, journeys: Journeys, outbox: Outbox, within: float, hint: str) -> None:
        self._journeys = journeys
        self._outbox = outbox
        self._within = within
        self._hint = hint
        self.failed: asyncio.Task[None] | None = None
        """Ends with the service, and has the error that ended it."""

    def deadline(self, within: Seconds | None) -> Deadline:
        """Return the deadline of a wait that begins now."""
        return Deadline(self._within if within is None else checked.seconds(within, "within"))

    async def until(
        self,
        holds: Callable[[], bool],
        deadline: Deadline,
        what: str,
        pending: Callable[[], Sequence[Journey]],
    ) -> None:
        """Wait until `holds`, which a change of journeys may make true.

        :raises HarnessTimeoutError: it does not, or one of `pending` waits for longer than that
        """
        while not holds():
            late = self._journeys.late(pending(), deadline.left)
            if late is not None:
                raise self._too_late(what, deadline, late)
            if not await self._change(deadline.left) and not holds():
                raise HarnessTimeoutError(
                    f"{what} within {deadline.seconds:g} s; {self._journeys.describe(pending())}"
                )

    async def until_none(
        self,
        deadline: Deadline,
        what: str,
        pending: Callable[[], Sequence[Journey]],
        unpublished: Callable[[], Awaitable[Sequence[Unpublished]]],
    ) -> None:
        """Wait until there is none of these journeys and of these messages of the outbox.

        :raises HarnessTimeoutError: some are left at the deadline, or one waits for longer
        """
        while True:
            await self.until(lambda: not pending(), deadline, what, pending)
            before = self._journeys.changed
            left = await unpublished()
            if not left:
                # What was confirmed after the look is a journey, and what was handled changed one.
                if before is self._journeys.changed:
                    return
                continue
            late = [each for each in left if each.wait > max(deadline.left, 0.0)]
            if late:
                raise self._too_late(what, deadline, self._outbox.describe(late))
            if deadline.left <= 0:
                told = self._outbox.describe(left)
                raise HarnessTimeoutError(f"{what} within {deadline.seconds:g} s; {told}")
            await self._change(min(deadline.left, LOOK))

    async def _change(self, timeout: float) -> bool:  # noqa: ASYNC109 - of a wait
        """Wait for a change, and tell whether there was one; raises what ended the service."""
        assert self.failed is not None
        either = [self._journeys.changed, self.failed]
        done, _ = await asyncio.wait(either, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if self.failed.done():
            self.failed.result()
        return bool(done)

    def _too_late(self, what: str, deadline: Deadline, late: str) -> HarnessTimeoutError:
        return HarnessTimeoutError(f"{what} within {deadline.seconds:g} s: {late}; {self._hint}")
