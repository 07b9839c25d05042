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
    load, found = plan.load, plan.waits
    lines = []
    if known is not None:
        told = f"{known.runs:,} runs in {known.seconds:.3g} s"
        if known.wait is not None:
            told += f"; messages waited {_time(known.wait)} on average"
        lines.append(("measured", told))
    spread = "as exponential (M/M/c)" if load.cv == 1 else f"with a spread of {load.cv:.3g} (M/G/c)"
    lines.append(
        (
            "load",
            f"{load.rate:,.4g} messages/s, {_time(load.service_time)} each, {spread}: "
            f"{load.offered:,.4g} workers busy on average",
        )
    )
    if found.is_stable:
        lines += _stable(plan)
    else:
        grows = load.rate - found.capacity
        lines.append(
            (
                "workers",
                f"{found.workers:,} are too few: they do {found.capacity:,.4g} messages/s of "
                f"{load.rate:,.4g}, and the queue grows by {grows:,.4g} a second",
            )
        )
    if plan.fewest is not None and plan.fewest > found.workers:
        lines.append(("needed", f"{plan.fewest:,} workers, {_deadline(plan)}"))
    if plan.backlog:
        gone = f"is gone in {_time(plan.drain)}" if math.isfinite(plan.drain) else "is never gone"
        lines.append(("backlog", f"of {plan.backlog:,} messages {gone}"))
    lines.append(
        (
            "set",
            f"--processes {plan.processes}, concurrency={plan.concurrency}, "
            f"prefetch={plan.prefetch}",
        )
    )
    return [f"{name:<9} {text}" for name, text in lines]


def _stable(plan: Plan) -> list[tuple[str, str]]:
    found = plan.waits
    why = ""
    if plan.fewest is not None and found.workers == plan.fewest:
        why = f", the fewest {_deadline(plan)}"
    share = f"{plan.quantile * 100:.6g} %"
    return [
        ("workers", f"{found.workers:,}, {found.utilisation:.0%} busy{why}"),
        (
            "wait",
            f"{_time(found.mean)} on average, {_time(found.quantile(plan.quantile))} at most for "
            f"{share}; {found.chance:.0%} of the messages wait at all",
        ),
        ("done", f"{_time(found.response)} after it came, on average"),
    ]


def _deadline(plan: Plan) -> str:
    share = f"{plan.quantile * 100:.6g} %"
    return f"for {share} to wait no longer than {_time(plan.deadline or 0.0)}"


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
    share = f"{plan.quantile * 100:.6g} %"
    lines = [
        Line("mean wait", [(each.load.rate, each.mean) for each in at_rates]),
        Line(
            f"{share} wait at most",
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
