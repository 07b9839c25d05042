"""The hot path, 2 of 3: from a delivery to its outcome. Nothing is settled here."""

from __future__ import annotations

from mqkit.clock import loop_clock
from mqkit.codec import SLOW_BODY, DeliveryDecoder
from mqkit.consuming.failures import FailureJudge, end_cancelling
from mqkit.consuming.headers import expired
from mqkit.consuming.invoker import Invoker
from mqkit.errors import DecodeError
from mqkit.message import Delivery
from mqkit.outcome import Ack, DeadLetter, DeathReason, Lost, Outcome, Requeue


class Dispatcher:
    """Runs one handler: decodes the body, calls the handler, and has a failure judged."""

    def __init__(
        self,
        decoder: DeliveryDecoder,
        invoker: Invoker,
        judge: FailureJudge,
        *,
        times_runs: bool = False,
    ) -> None:
        """Run nothing yet.

        :param times_runs: whether each delivery is to say when it ran
        """
        self._times_runs = times_runs
        self._decoder = decoder
        self._invoker = invoker
        self._judge = judge
        self._needs_message_id = invoker.needs_message_id
        self._now = loop_clock()

    async def dispatch(self, delivery: Delivery) -> Outcome:
        """Return the outcome of one run; nothing that anybody's code raises gets through."""
        if delivery.expires is not None and (dead := expired(delivery, self._now())):
            return dead
        try:
            if len(delivery.body) >= SLOW_BODY:
                body = await self._decoder.decode_aside(delivery)
            else:
                body = self._decoder.decode(delivery)
        except DecodeError as error:
            return DeadLetter(DeathReason.UNDECODABLE, error)
        if self._needs_message_id and not delivery.message_id:
            return self._judge.unidentified()
        began = self._now()
        try:
            result, reply = await self._invoker.invoke(delivery, body)
        except GeneratorExit:  # Python throws the coroutine away
            raise
        except BaseException as error:  # noqa: BLE001 - whatever a handler raises is an outcome
            if self._times_runs:
                delivery.ran = (began, self._now())
            await end_cancelling()
            if delivery.settled:  # given back, and its run was cancelled for that
                return _unless_lost(delivery, Requeue())
            # No variable holds the outcome: it has the error, whose traceback has this frame, and
            # each failed message would stay in memory until the garbage collector finds it.
            return _unless_lost(delivery, self._judge.judge(delivery, error, began))
        if self._times_runs:
            delivery.ran = (began, self._now())
        return _unless_lost(delivery, Ack(result, reply))


def _unless_lost(delivery: Delivery, outcome: Outcome) -> Outcome:
    return Lost() if delivery.lost else outcome
