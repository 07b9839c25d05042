"""Tells a plan: as lines for a person, as JSON, and as a picture."""

from __future__ import annotations

import math
from typing import Any

from mqkit.capacity.live import Measured
from mqkit.capacity.plan import Plan
from mqkit.capacity.queueing import Load, waits
from mqkit.pictures.plot import Line, Mark, plot_svg

POINTS = 60
"""Of each line of the picture."""

NEAREST = 0.985
"""The highest utilisation that is drawn: at 1 the wait has no end."""


def lines_of(plan: Plan, known: Measured | None) -> list[str]:
    """Say what a plan is, a line for each part of it."""
    lines = [] if known is None else [("measured", _measured(known))]
    lines.append(("load", _load(plan.load)))
    lines += _stable(plan) if plan.waits.is_stable else [("workers", _overloaded(plan))]
    if plan.fewest is not None and plan.fewest > plan.waits.workers:
        lines.append(("needed", f"{plan.fewest:,} workers, {_deadline(plan)}"))
    if plan.backlog:
        gone = f"is gone in {_time(plan.drain)}" if math.isfinite(plan.drain) else "is never gone"
        lines.append(("backlog", f"of {plan.backlog:,} messages {gone}"))
    options = f"concurrency={plan.concurrency}, prefetch={plan.prefetch}"
    lines.append(("set", f"--processes {plan.processes}, {options}"))
    return [f"{name:<9} {text}" for name, text in lines]


def _measured(known: Measured) -> str:
    told = f"{known.runs:,} runs in {known.seconds:.3g} s"
    return told if known.wait is None else f"{told}; messages waited {_time(known.wait)} on average"


def _load(load: Load) -> str:
    spread = "exponential (M/M/c)" if load.cv == 1 else f"with a spread of {load.cv:.3g} (M/G/c)"
    each = f"{load.rate:,.4g} messages/s, {_time(load.service_time)} each, {spread}"
    return f"{each}: {load.offered:,.4g} workers busy on average"


def _overloaded(plan: Plan) -> str:
    found, rate = plan.waits, plan.load.rate
    does = f"they do {found.capacity:,.4g} messages/s of {rate:,.4g}"
    grows = f"the queue grows by {rate - found.capacity:,.4g} a second"
    return f"{found.workers:,} are too few: {does}, and {grows}"


def _stable(plan: Plan) -> list[tuple[str, str]]:
    found = plan.waits
    why = ""
    if plan.fewest is not None and found.workers == plan.fewest:
        why = f", the fewest {_deadline(plan)}"
    most = f"{_time(found.quantile(plan.quantile))} at most for {_share(plan)}"
    waiting = f"{found.chance:.0%} of the messages wait at all"
    return [
        ("workers", f"{found.workers:,}, {found.utilisation:.0%} busy{why}"),
        ("wait", f"{_time(found.mean)} on average, {most}; {waiting}"),
        ("done", f"{_time(found.response)} after it came, on average"),
    ]


def _share(plan: Plan) -> str:
    return f"{plan.quantile * 100:.6g} %"


def _deadline(plan: Plan) -> str:
    return f"for {_share(plan)} to wait no longer than {_time(plan.deadline or 0.0)}"


def _time(seconds: float) -> str:
    if seconds and seconds < 1:
        return f"{seconds * 1000:.3g} ms"
    return f"{seconds:,.3g} s" if seconds < 1000 else f"{seconds:,.0f} s"  # noqa: PLR2004 - digits


def as_json_object(plan: Plan, known: Measured | None) -> dict[str, Any]:
    """Return a plan as JSON has it; what has no end is null."""
    load, found = plan.load, plan.waits
    return {
        "rate": load.rate,
        "service_time": load.service_time,
        "cv": load.cv,
        "offered": load.offered,
        "workers": found.workers,
        "fewest": plan.fewest,
        "holds": plan.holds,
        "deadline": plan.deadline,
        "quantile": plan.quantile,
        "capacity": found.capacity,
        "utilisation": found.utilisation,
        "chance_of_waiting": found.chance,
        "wait_mean": _finite(found.mean),
        "wait_quantile": _finite(found.quantile(plan.quantile)),
        "done_mean": _finite(found.response),
        "backlog": plan.backlog,
        "drain": _finite(plan.drain),
        "processes": plan.processes,
        "concurrency": plan.concurrency,
        "prefetch": plan.prefetch,
        "measured": None
        if known is None
        else {"runs": known.runs, "seconds": known.seconds, "wait": known.wait},
    }


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None


def plot_of(plan: Plan) -> str:
    """Draw how long messages wait for this plan's workers, from a low rate to the most they do."""
    found = plan.waits
    rates = [found.capacity * NEAREST * (number + 1) / POINTS for number in range(POINTS)]
    at_rates = [
        waits(Load(rate, plan.load.service_time, plan.load.cv), found.workers) for rate in rates
    ]
    lines = [
        Line("mean wait", [(each.load.rate, each.mean) for each in at_rates]),
        Line(
            f"{_share(plan)} wait at most",
            [(each.load.rate, each.quantile(plan.quantile)) for each in at_rates],
        ),
    ]
    if plan.deadline is not None:
        lines.append(Line("deadline", [(rates[0], plan.deadline), (rates[-1], plan.deadline)]))
    marks = [Mark(plan.load.rate, found.mean, "this load")] if found.is_stable else []
    return plot_svg(
        lines,
        title=f"Wait for {found.workers:,} workers",
        x_label="messages per second",
        y_label="seconds of wait",
        marks=marks,
    )
