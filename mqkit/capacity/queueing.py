"""Computes how long messages wait for a worker, from their rate and how long a run takes.

Messages come at random, independently of each other (Poisson), and each of `c` workers takes the
next one as soon as it is free. The time of a run has a mean and a spread:

- where it is spread as an exponential distribution is (a coefficient of variation of 1), the waits
  are exact: M/M/c, by Erlang's C formula (A. K. Erlang, 'Solution of some problems in the theory of
  probabilities of significance in automatic telephone exchanges', 1917; Kleinrock, 'Queueing
  Systems', volume 1, 1975, section 3.5);
- for any other spread the mean is an approximation of M/G/c, between M/M/c and M/D/c by the squared
  spread (Kimura, 'Approximations for multi-server queues: system interpolations', Queueing Systems
  17, 1994). M/D/c, of runs that all take the same, is Cosmetatos' ('Approximate explicit formulae
  for the average queueing time in the processes (M/D/r) and (D/M/r)', INFOR 13, 1975), kept below
  its limit for light loads (Kimura, 'Refining Cosmetatos' approximation for the mean waiting time
  in the M/D/s queue', Journal of the Operational Research Society 42, 1991). Allen's and Cunneen's
  (1 + cv^2) / 2 is the limit of this for workers that are always busy; with many that are not, it
  is a third too low. For one worker both are exact (Pollaczek and Khinchine). Of those who wait,
  the waits are taken as exponential, which they are the more the busier the workers are (Kingman,
  'The heavy traffic approximation in the theory of queues', 1965).

A load that comes in bursts waits longer than this says.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from mqkit.checks.checked import as_number, count, shown
from mqkit.errors import OptionError

MAX_WORKERS = 1_000_000
"""More workers than this are not computed: it is far past what one queue hands out."""

MAX_NUMBER = 1e15
"""A rate, a time or a spread over it is a slip of the keyboard."""


@dataclass(frozen=True, slots=True)
class Load:
    """The messages of a queue: how many come, and how long each keeps a worker.

    :raises OptionError: one of them cannot be what it was given
    """

    rate: float
    """Messages per second that are published, on average."""
    service_time: float
    """Seconds that a worker is busy with a message, on average: the handler, and its ack."""
    cv: float = 1.0
    """The spread of that time: its standard deviation divided by its mean. 0 is always the same."""

    def __post_init__(self) -> None:
        _number(self.rate, "the rate, messages per second,", over=0)
        _number(self.service_time, "the service time, in seconds,", over=0)
        _number(self.cv, "the coefficient of variation", least=0)

    @property
    def offered(self) -> float:
        """How many workers it keeps busy, on average (in erlangs)."""
        return self.rate * self.service_time


@dataclass(frozen=True, slots=True)
class Waits:
    """How long messages wait for one of so many workers. Times are in seconds."""

    load: Load
    workers: int
    utilisation: float
    """The share of the time in which a worker is busy; 1 and more: the queue grows without end."""
    chance: float
    """The share of the messages that find no free worker, and wait."""
    mean: float
    """How long a message waits on average, those that do not wait included; infinite where the
    queue grows without end."""

    @property
    def is_stable(self) -> bool:
        """Whether the workers can do what comes."""
        return self.utilisation < 1

    @property
    def capacity(self) -> float:
        """How many messages per second the workers can do."""
        return self.workers / self.load.service_time

    @property
    def response(self) -> float:
        """How long it takes on average until a message is done: its wait and its run."""
        return self.mean + self.load.service_time

    def quantile(self, share: float) -> float:
        """Return the wait that this share of the messages does not exceed.

        :param share: 0.99 is 99 of 100
        :raises OptionError: it is not between 0 and 1
        """
        check_share(share)
        if not self.is_stable:
            return math.inf
        if self.chance <= 1 - share or not self.mean:
            return 0.0
        return self.mean / self.chance * math.log(self.chance / (1 - share))

    def longer_than(self, seconds: float) -> float:
        """Return the share of the messages that wait for longer than so many seconds."""
        if not self.is_stable:
            return 1.0
        if not self.mean:
            return 0.0 if seconds >= 0 else 1.0
        return self.chance * math.exp(-seconds * self.chance / self.mean)

    def drain(self, backlog: int) -> float:
        """Return the seconds until a backlog is gone, while messages keep coming.

        :param backlog: messages that wait already
        :raises OptionError: it is no whole number, or negative
        """
        count(backlog, "a backlog", least=0, most=int(MAX_NUMBER))
        if not backlog:
            return 0.0
        spare = self.capacity - self.load.rate
        return backlog / spare if spare > 0 else math.inf


def waits(load: Load, workers: int) -> Waits:
    """Compute how long messages wait for one of so many workers.

    :raises OptionError: the workers are no whole number, none, or over a million
    """
    check_workers(workers)
    utilisation = load.offered / workers
    if utilisation >= 1:
        return Waits(load, workers, utilisation, 1.0, math.inf)
    return _waits(load, workers, _erlang_b(load.offered, workers))


def workers_for(load: Load, deadline: float, quantile: float) -> Waits:
    """Find the fewest workers with which a share of the messages waits no longer than a deadline.

    :param deadline: seconds from when a message is in its queue until its handler begins
    :param quantile: the share of the messages, 0.99 for 99 of 100
    :raises OptionError: one of them cannot be what it was given, or it takes over a million
    """
    _number(deadline, "the deadline, in seconds,", least=0)
    check_share(quantile)
    offered = load.offered
    if not offered < MAX_WORKERS:
        raise _too_many(load)
    workers = math.floor(offered) + 1
    blocked = _erlang_b(offered, workers)
    while workers <= MAX_WORKERS:
        found = _waits(load, workers, blocked)
        if found.longer_than(deadline) <= 1 - quantile:
            return found
        workers += 1
        blocked = _next_erlang_b(offered, workers, blocked)
    raise _too_many(load)


def check_share(share: object) -> float:
    """Check a share of the messages, and return it.

    :raises OptionError: it is no number between 0 and 1, both excluded
    """
    number = as_number(share)
    if number is None or not 0 < number < 1:
        raise OptionError(
            f"the quantile is a share of the messages, between 0 and 1, not {shown(share)}: "
            "0.99 for 99 of 100"
        )
    return number


def check_workers(workers: object) -> int:
    """Check a number of workers, and return it.

    :raises OptionError: it is no whole number, none, or over a million
    """
    return count(workers, "the number of workers", most=MAX_WORKERS)


def _waits(load: Load, workers: int, blocked: float) -> Waits:
    utilisation = load.offered / workers
    chance = blocked / (1 - utilisation * (1 - blocked))
    spare = workers / load.service_time - load.rate
    mean = chance / spare * _spread(load.cv, utilisation, workers) if spare > 0 else math.inf
    return Waits(load, workers, utilisation, chance, mean)


def _spread(cv: float, utilisation: float, workers: int) -> float:
    """Return by how much the spread of the runs makes waits longer than those of M/M/c.

    Runs that all take the same wait about half as long, and longer where many workers are often
    free: up to `c / (c + 1)`, which is the limit of a load near 0.
    """
    often_free = (1 - utilisation) * (workers - 1) * (math.sqrt(4 + 5 * workers) - 2)
    of_equal = min((1 + often_free / (16 * utilisation * workers)) / 2, workers / (workers + 1))
    squared = cv * cv
    return squared + (1 - squared) * of_equal


def _erlang_b(offered: float, workers: int) -> float:
    """Return the share of messages that find all workers busy, if none could wait (Erlang's B).

    By its recursion, which neither overflows nor cancels (Kleinrock, section 3.6).
    """
    blocked = 1.0
    for number in range(1, workers + 1):
        blocked = _next_erlang_b(offered, number, blocked)
    return blocked


def _next_erlang_b(offered: float, workers: int, blocked: float) -> float:
    """Return Erlang's B for so many workers from that for one fewer."""
    return offered * blocked / (workers + offered * blocked)


def _too_many(load: Load) -> OptionError:
    return OptionError(
        f"{load.rate:g} messages per second of {load.service_time:g} s each take over "
        f"{MAX_WORKERS:,} workers; look at the units: the rate is per second, the service time in "
        "seconds"
    )


def _number(
    value: object, what: str, *, least: float | None = None, over: float | None = None
) -> None:
    number = as_number(value)
    low = f"more than {over:g}" if least is None else f"{least:g} or more"
    why = ""
    if number is not None and number <= MAX_NUMBER:
        if least is None and number > (over or 0):
            return
        if least is not None and number >= least:
            return
    elif number is not None:
        why = ": more is a slip of the keyboard, or of the units"
    raise OptionError(
        f"{what} is a number, {low} and up to {MAX_NUMBER:g}, not {shown(value)}{why}"
    )
