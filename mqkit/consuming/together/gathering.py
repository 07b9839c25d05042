"""Processes the deliveries of a queue whose messages are handled in batches.

A message of a batch waits without a task: hundreds of them are under way, and a task for each would
cost more than all else that is done here for a message.
"""

from __future__ import annotations

import asyncio
import functools
from typing import Any

from mqkit.clock import loop_clock
from mqkit.consuming.ordering import HeldRetries
from mqkit.consuming.pausing.controller import Began, PauseController
from mqkit.consuming.processor import Processor
from mqkit.consuming.together.batching import Batcher, Place
from mqkit.hooks.tracing import SettleAtOnce
from mqkit.message import Delivery
from mqkit.outcome import Ack, Lost, Outcome, Requeue


class BatchProcessor(Processor):
    """Puts each delivery into a batch, and settles it once the batch was handled."""

    def __init__(
        self,
        batcher: Batcher,
        *args: Any,
        pauses: PauseController,
        held: HeldRetries | None = None,
        **options: Any,
    ) -> None:
        """Process nothing yet; what is not named here is a `Processor`'s.

        :param pauses: are told how the run of each message ended
        :param held: holds a message that failed, where an order is kept
        """
        super().__init__(*args, dispatch=_never, **options)
        self._batcher = batcher
        self._pauses = pauses
        self._held = held
        self._now = loop_clock()
        self._settle_at_once: SettleAtOnce = self._settler.settle_at_once
        if self._tracing is not None:
            self._settle_at_once = self._tracing.settling_at_once(
                self._handler.name, self._settler.settle_at_once
            )

    async def _process(self, delivery: Delivery) -> Place | None:
        """Put the delivery into a batch. A worker calls this, and does not wait for the batch."""
        if delivery.lost:  # the broker delivers it again
            return None
        came, began = self._now(), self._pauses.begin()
        found: Place | Outcome | BaseException | None = None
        try:
            if self._observer is not None:
                self._observer.started(self._handler.name, delivery)
            if self._held is not None:
                found = self._held.without_key(delivery)
            if found is None:
                ended = functools.partial(self._ended, came, began)
                found = await self._batcher.collect(delivery, ended)
        except (asyncio.CancelledError, GeneratorExit):
            raise
        except BaseException as error:  # noqa: BLE001 - nothing may leave a message unsettled
            found = error
        if isinstance(found, Place):
            return found
        await self._finish(delivery, found, came, began)
        return None

    def _ended(
        self, came: float, began: Began, place: Place, outcome: Outcome | BaseException
    ) -> None:
        """Settle a message whose batch was handled: at once, or in a task where that takes time."""
        delivery = place.delivery
        try:
            if isinstance(outcome, Ack) and not delivery.properties.reply_to:
                self._pauses.went_well(began)
            elif not isinstance(outcome, Requeue | Lost):
                self.workers.go_on(place, self._finish(delivery, outcome, came, began))
                return
            self._settle_at_once(delivery, outcome)
        except BaseException as error:  # noqa: BLE001 - nothing may leave a message unsettled
            self.workers.go_on(place, self._last_resort.settle(delivery, error))
        else:
            self.workers.leave(place)

    async def _finish(
        self, delivery: Delivery, outcome: Outcome | BaseException, came: float, began: Began
    ) -> None:
        """Judge what has ended, and settle it; where an order is kept, run it to its end before."""
        try:
            if isinstance(outcome, BaseException):
                raise outcome  # noqa: TRY301 - as all else that could not be settled
            outcome = await self._pauses.judge(delivery, outcome, began)
            if self._held is not None:
                outcome = await self._held.until_over(delivery, outcome, came)
            await self._settle(delivery, outcome)
        except (asyncio.CancelledError, GeneratorExit):
            raise
        except BaseException as error:  # noqa: BLE001 - nothing may leave a message unsettled
            await self._last_resort.settle(delivery, error)


async def _never(delivery: Delivery) -> Outcome:
    raise AssertionError(f"{delivery} is handled in a batch")
