"""Logs what became of deliveries: one line each, which says why, where and which message.

ERROR: it was dead-lettered. WARNING: it is tried again. DEBUG: it is done, or was given back
without a fault of its own.
"""

from __future__ import annotations

import logging
from typing import Any

from mqkit.logging.context import delivery_fields
from mqkit.logging.error_reports import ErrorReport, ErrorReports, log_with_traceback
from mqkit.logging.shown import shown
from mqkit.message import Delivery

logger = logging.getLogger("mqkit.deliveries")
"""A name for users, who may want this at another level than the rest."""

REJECTED = "rejected"
"""The reason of a `Reject`, whose text is the handler's word on it."""


class DeliveryLog:
    """Logs what became of the deliveries of one handler."""

    def __init__(
        self,
        service: str,
        handler: str,
        *,
        reports: ErrorReports,
        package: str | None = None,
        attempts: int | None = None,
    ) -> None:
        """Log nothing yet.

        :param reports: says of errors what the service wants in its log
        :param package: the top package of the handler's module: its code is the application's
        :param attempts: how many its policy allows, if that is known
        """
        self.service = service
        self.handler = handler
        self.reports = reports
        self.package = package
        self._attempts = attempts

    @property
    def tells_successes(self) -> bool:
        """Whether anybody listens to what `done` logs."""
        return logger.isEnabledFor(logging.DEBUG)

    def done(self, delivery: Delivery) -> None:
        """Log that a message is done."""
        self._log(logging.DEBUG, delivery, "ack", "done")

    def given_back(self, delivery: Delivery) -> None:
        """Log that a message went back to its queue, without a fault of its own."""
        self._log(logging.DEBUG, delivery, "requeue", "given back to its queue")

    def lost(self, delivery: Delivery) -> None:
        """Log that a message was lost with its channel, which the broker delivers again."""
        what = "lost with its channel; the broker delivers it again"
        self._log(logging.DEBUG, delivery, "lost", what)

    def retried(
        self,
        delivery: Delivery,
        error: BaseException,
        delay: float,
        *,
        counted: bool = True,
        held: bool = False,
        keeps_text: bool = False,
    ) -> None:
        """Log that a message failed and is tried again.

        :param delay: seconds until it is
        :param counted: whether the attempt counts; one that does not failed for a reason that is
            logged where it is known, once for all messages
        :param held: whether it waits in this process, and those of its key with it
        :param keeps_text: as `ErrorReports.of`
        """
        level = logging.WARNING if counted else logging.DEBUG
        how = "held for a retry" if held else "retry"
        what = f"failed, {how} in {delay:.1f} s"
        if not counted:
            what = f"failed, which does not count, {how} in {delay:.1f} s"
        extra = {"retry_in": round(delay, 1)}
        self._log(level, delivery, "retry", what, error, extra=extra, keeps_text=keeps_text)

    def dead_lettered(
        self, delivery: Delivery, error: BaseException, reason: str, *, keeps_text: bool = False
    ) -> None:
        """Log that a message is in the dead letter queue.

        :param reason: a value of `DeathReason`
        """
        to = f"dead-lettered to {delivery.queue}.dead"
        what = f"rejected it, {to}" if reason == REJECTED else f"failed, {to} ({reason})"
        extra = {"reason": reason}
        self._log(
            logging.ERROR, delivery, "dead-letter", what, error, extra=extra, keeps_text=keeps_text
        )

    def _log(
        self,
        level: int,
        delivery: Delivery,
        outcome: str,
        what: str,
        error: BaseException | None = None,
        *,
        extra: dict[str, Any] | None = None,
        keeps_text: bool = False,
    ) -> None:
        if not logger.isEnabledFor(level):
            return
        report: ErrorReport | None = None
        traceback = None
        if error is not None:
            report = self.reports.of(error, self.package, keeps_text=keeps_text)
            if self.reports.detail == "traceback" and not keeps_text:
                traceback = self.reports.traceback(error)
        added = delivery_fields(self.service, self.handler, delivery) | {"outcome": outcome}
        if delivery.trace is not None and delivery.trace.trace_id:
            # What runs now may be the settling of other messages, too.
            added |= {"trace_id": delivery.trace.trace_id, "span_id": delivery.trace.span_id}
        if self._attempts is not None:
            added["max_attempts"] = self._attempts
        if report is not None:
            added["error"] = report.as_field()
        of = "" if self._attempts is None else f" of {max(self._attempts, delivery.attempt)}"
        log_with_traceback(
            logger,
            level,
            "%s: attempt %d%s %s%s [%s]",
            self.handler,
            delivery.attempt,
            of,
            what,
            "" if report is None else f": {report.words(has_type=not keeps_text)}",
            _named(delivery),
            traceback=traceback,
            extra=added | (extra or {}),
        )


def _named(delivery: Delivery) -> str:
    """Say which message it is, and how it came."""
    exchange = f"exchange {shown(delivery.exchange)}" if delivery.exchange else "default exchange"
    return (
        f"message {shown(delivery.message_id)}, {exchange}, key {shown(delivery.routing_key)}, "
        f"queue {shown(delivery.queue)}"
    )
