"""What is done with dead letters: a dry run, a replay, archive and restore; and how far it is."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from mqkit.console.desk import desk_of, page
from mqkit.console.letters.jobs import Chosen, Job, What
from mqkit.console.pages.changing import Changing
from mqkit.console.pages.login import form_of
from mqkit.dead_letters import EVERYTHING, Filter, Pace
from mqkit.dead_letters.audit import checked_text
from mqkit.dead_letters.queues import Names
from mqkit.errors import OptionError

LOOKING = 1
"""Seconds between two looks of a page at a job that runs."""

DEFAULT_PACE = Pace()


def chosen_by(request: Request) -> Chosen:
    """Return which dead letters a form means: a letter, a group, or all, where it says so.

    :raises ConfigurationError: it does not say which, or what it says cannot be
    """
    form = form_of(request)
    queue = Names.of(form.get("queue")).queue
    if ref := form.get("ref"):
        return Chosen(queue, Filter(ids=frozenset({ref})), f"dead letter {ref}")
    if group := form.get("group"):
        words = desk_of(request).letters.group_words(queue, group)
        return Chosen(queue, Filter(groups=frozenset({group})), words)
    if form.get("all") == "yes":
        return Chosen(queue, EVERYTHING, "all dead letters")
    raise OptionError("which dead letters? The form names no letter and no group; nothing was done")


def fields_of(chosen: Chosen) -> dict[str, str]:
    """Return the fields of a form that means the same."""
    fields = {"queue": chosen.queue}
    if chosen.filter.is_empty:
        return fields | {"all": "yes"}
    for group in chosen.filter.groups:
        fields["group"] = group
    for ref in chosen.filter.ids:
        fields["ref"] = ref
    return fields


async def rehearse(request: Request) -> Response:
    """Begin a dry run."""
    job = desk_of(request).letters.rehearse(chosen_by(request))
    return _to(job)


async def replay(request: Request) -> Response:
    """Begin a replay."""
    form = form_of(request)
    pace = Pace(rate=_number(form.get("rate"), DEFAULT_PACE.rate))
    return _move(request, What.REPLAY, pace)


async def archive(request: Request) -> Response:
    """Begin to archive."""
    return _move(request, What.ARCHIVE, DEFAULT_PACE)


async def restore(request: Request) -> Response:
    """Begin to bring back what was archived."""
    return _move(request, What.RESTORE, DEFAULT_PACE)


def _move(request: Request, what: What, pace: Pace) -> Response:
    form = form_of(request)
    chosen = chosen_by(request)
    why = checked_text(form.get("why"), "the reason (why)")
    meant = form.get("meant")
    is_count = meant.isascii() and meant.isdigit() and len(meant) < 10  # noqa: PLR2004 - no more
    job = desk_of(request).letters.move(
        what, chosen, why=why, pace=pace, meant=int(meant) if is_count else None
    )
    return _to(job)


def _number(text: str, default: float) -> float:
    if not text:
        return default
    try:
        return float(text)
    except ValueError:
        raise OptionError("the rate is a number of messages a second; nothing was done") from None


def _to(job: Job) -> Response:
    return RedirectResponse(f"/dead-letters/job?id={job.id}", 303)


async def show(request: Request) -> Response:
    """Show how far a job is, or what came of it."""
    job = _find(request, request.query_params.get("id", ""))
    return page(
        request,
        "job.html",
        title=f"{job.what.capitalize()} of {job.chosen.words}",
        refresh=LOOKING if job.is_running else None,
        job=job,
        fields=fields_of(job.chosen),
        pace=DEFAULT_PACE,
        has_service=job.rehearsed is not None and job.rehearsed.valid is not None,
    )


async def stop(request: Request) -> Response:
    """Stop a job; what it has not moved is where it was."""
    job = _find(request, form_of(request).get("id"))
    await desk_of(request).letters.jobs.stop(job)
    return _to(job)


def _find(request: Request, job_id: str) -> Job:
    job = desk_of(request).letters.jobs.find(job_id)
    if job is None:
        raise HTTPException(
            404,
            "This console knows no such run: it was started anew meanwhile. The audit of what "
            "was done is with the dead letters of the queue.",
        )
    return job


ROUTES = (
    Route("/dead-letters/job", show, methods=["GET"]),
    Route("/dead-letters/dry-run", rehearse, methods=["POST"]),
    Changing("/dead-letters/replay", replay),
    Changing("/dead-letters/archive", archive),
    Changing("/dead-letters/restore", restore),
    Changing("/dead-letters/stop", stop),
)
