"""Closes resources one after the other, within a stated time, whatever each of them does."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from mqkit.logging.error_reports import REPORTS, ErrorReports

logger = logging.getLogger(__name__)

LEAST = 0.3
"""Seconds that each step gets, also where the steps before it have used up the time."""

Step = tuple[str, Callable[[], Awaitable[object]]]
"""What is closed, for a person, and how."""


class Closing:
    """Runs steps to their end, each in its share of the time that is left for all of them.

    What a step raises is logged, and the next step runs all the same. A step that takes too long
    is cancelled. One that refuses to be cancelled holds up the rest: it runs in the caller's task,
    since an asynchronous generator may have to be closed in the task that it was opened in.
    """

    def __init__(self, owner: str, reports: ErrorReports = REPORTS) -> None:
        """Close nothing yet.

        :param owner: whose things they are, for the log
        :param reports: says of errors what the service wants in its log
        """
        self._owner = owner
        self._reports = reports
        self.doing = ""
        """What is closed now, or ''."""
        self.errors: list[BaseException] = []
        """What the steps raised, `TimeoutError` for one that took too long."""

    async def run(self, steps: list[Step], until: float) -> None:
        """Run all steps.

        :param until: when they are to be done, by the loop's clock
        """
        loop = asyncio.get_running_loop()
        for number, (what, step) in enumerate(steps, start=1):
            left = until - loop.time() - LEAST * (len(steps) - number)
            await self._run(what, step, max(left, LEAST))
        self.doing = ""

    async def _run(self, what: str, step: Callable[[], Awaitable[object]], within: float) -> None:
        self.doing = f"closing {what}"
        deadline = asyncio.timeout(within)
        try:
            async with deadline:
                await step()
        except TimeoutError as error:
            self.errors.append(error)
            if deadline.expired():
                logger.error(  # noqa: TRY400 - the time is over; where, is no news
                    "%s: closing %s took over %.1f s, and is given up", self._owner, what, within
                )
            else:
                self._log(what, error)
        except BaseException as error:  # noqa: BLE001 - it is raised once all are closed
            # Also the caller's own cancellation: the rest must be closed, and it is raised then.
            self.errors.append(error)
            self._log(what, error)

    def _log(self, what: str, error: BaseException) -> None:
        text = "%s: closing %s failed"
        self._reports.log(logger, logging.ERROR, text, self._owner, what, error=error)
