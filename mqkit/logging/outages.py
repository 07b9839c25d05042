"""Logs an outage by one line at its start, one a minute while it lasts, and one at its end.

What is away is noticed by many: each connection of a service, each thread of a publisher, each
attempt to connect. They share one `OutageLog`, and are one outage from the first to the last.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Hashable
from datetime import UTC, datetime, timedelta

from mqkit.clock import Clock, utc_now
from mqkit.logging.error_reports import (
    REPORTS,
    ErrorReports,
    is_ours,
    log_with_traceback,
)

logger = logging.getLogger("mqkit.outages")
"""A name for users, who may want these lines elsewhere than the rest."""

EVERY = timedelta(minutes=1)
"""Between two lines of one outage."""


class OutageLog:
    """Logs the outages of one thing; any thread may tell it."""

    def __init__(self, *, clock: Clock = utc_now, reports: ErrorReports = REPORTS) -> None:
        self._clock = clock
        self._reports = reports
        self._lock = threading.RLock()  # a handler of the log may publish
        self._down: set[Hashable] = set()
        self._name = self._what = ""
        self._since = self._told = datetime.min.replace(tzinfo=UTC)
        self._untold = 0
        self._met: set[type | None] = set()

    def down(
        self,
        name: str,
        what: str,
        why: str | BaseException,
        *,
        then: str = "trying again",
        news: type | None = None,
    ) -> None:
        """Note that something is away, or still is; log it, at DEBUG where no line is due.

        :param name: whose outage it is; each that was away must be `up` again for it to end
        :param what: the line's words for it: 'connection lost', 'nothing is published'
        :param why: an error that is none of mqkit's is logged with its traceback
        :param then: what is done about it
        :param news: the kind of a reason that is none of the usual ones, told at once the first
            time in an outage; None: it is a usual one
        """
        with self._lock:
            now = self._clock()
            begins = not self._down
            self._down.add(name)
            if begins:
                self._name, self._what, self._since = name, what, now
                self._untold, self._met = 0, set()
            is_new = news is not None and news not in self._met
            self._met.add(news)
            if begins or is_new or now - self._told >= EVERY:
                level, self._told = logging.WARNING, now
            else:
                level, self._untold = logging.DEBUG, self._untold + 1
            if not logger.isEnabledFor(level):
                return
            is_young = now - self._since < timedelta(seconds=1)
            lasted = "" if is_young else duration(now - self._since)
            self._log(level, name, why, lasted, then, now=now)
            if level != logging.DEBUG:
                self._untold = 0

    def _log(
        self,
        level: int,
        name: str,
        why: str | BaseException,
        lasted: str,
        then: str,
        *,
        now: datetime,
    ) -> None:
        said: object = why
        extra, traceback = self._fields(now), None
        if isinstance(why, BaseException):
            report = self._reports.of(why)
            said = report.text if is_ours(why) else report
            extra["error"] = report.as_field()
            traceback = None if is_ours(why) else self._reports.traceback(why)
        log_with_traceback(
            logger,
            level,
            "%s: %s since %s%s: %s%s; %s",
            name if level == logging.DEBUG else self._name,
            self._what,
            _time(self._since),
            f", for {lasted} now" if lasted else "",
            said,
            f" ({self._untold + 1} times)" if self._untold and level != logging.DEBUG else "",
            then,
            traceback=traceback,
            extra=extra,
            stacklevel=3,
        )

    def up(self, name: str, text: str) -> bool:
        """Note that it is back; log the outage's end if it was the last one that was away.

        :param text: what the line says beside how long it was: 'connected to RabbitMQ 4.3.0'
        :return: whether there was an outage
        """
        with self._lock:
            if name not in self._down:
                return False
            self._down.discard(name)
            if self._down:
                return True
            now = self._clock()
            logger.info(
                "%s: %s, after %s (since %s)",
                self._name,
                text,
                duration(now - self._since),
                _time(self._since),
                extra=self._fields(now),
            )
            return True

    def _fields(self, now: datetime) -> dict[str, object]:
        return {
            "since": self._since.isoformat(timespec="seconds"),
            "lasted": round((now - self._since).total_seconds(), 1),
        }


def duration(lasted: timedelta) -> str:
    """Say how long something was, for a person: '4.2 s', '3 min 20 s', '2 h 5 min'."""
    seconds = max(lasted.total_seconds(), 0.0)
    if seconds < 60:  # noqa: PLR2004 - a minute
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:  # noqa: PLR2004 - an hour
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def _time(moment: datetime) -> str:
    """Write a time as the lines of a log have it: this machine's."""
    return f"{moment.astimezone():%H:%M:%S}"
