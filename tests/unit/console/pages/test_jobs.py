"""What a page asks to be done with dead letters, without a broker."""

from __future__ import annotations

import pytest

from mqkit.dead_letters.rehearsing import Rehearsed
from tests.unit.console.samples import browser

ALL = {"queue": "a", "all": "yes"}

WRONG: dict[str, tuple[str, dict[str, str], str]] = {
    "no queue": ("replay", {"all": "yes", "why": "x"}, "a queue"),
    "none chosen": ("replay", {"queue": "a", "why": "x"}, "which dead letters?"),
    "all, otherwise said": (
        "replay",
        {"queue": "a", "all": "on", "why": "x"},
        "which dead letters?",
    ),
    "no reason": ("replay", ALL, "the reason (why)"),
    "a reason of white space": ("archive", ALL | {"why": "  "}, "the reason (why)"),
    "a reason that is too long": ("restore", ALL | {"why": "x" * 501}, "500 characters"),
    "no group": ("replay", {"queue": "a", "group": "<b>", "why": "x"}, "eight hexadecimal digits"),
    "a rate that is none": ("replay", ALL | {"why": "x", "rate": "fast"}, "messages a second"),
    "a rate of nothing": ("replay", ALL | {"why": "x", "rate": "0"}, "rate"),
    "a rate without end": ("replay", ALL | {"why": "x", "rate": "nan"}, "rate"),
    "a dry run of none": ("dry-run", {"queue": "a"}, "which dead letters?"),
}


@pytest.mark.parametrize(("what", "fields", "why"), WRONG.values(), ids=WRONG)
async def test_what_a_form_lacks_is_said_and_nothing_is_done(
    what: str, fields: dict[str, str], why: str
) -> None:
    """With 400, and no job."""
    async with browser(allow_changes=True) as one:
        answer = await one.post(f"/dead-letters/{what}", fields)
        assert one.app.state.desk.letters.jobs.latest() == []
    assert answer.status_code == 400
    assert why in answer.text
    assert "<b>" not in answer.text


async def test_a_job_that_is_not_known_is_said_to_be_none() -> None:
    """The console was started anew since."""
    async with browser(allow_changes=True) as one:
        shown = await one.get("/dead-letters/job", id="0")
        stopped = await one.post("/dead-letters/stop", {"id": "0"})
    assert shown.status_code == stopped.status_code == 404
    assert "knows no such run" in shown.text


async def test_a_job_that_fails_says_why() -> None:
    """The broker is not there; the page has the error, and the next job may begin."""
    async with browser(allow_changes=True) as one:
        work = one.app.state.desk.letters
        answer = await one.post("/dead-letters/dry-run", ALL)
        job = work.jobs.latest()[0]
        await work.jobs.stop(job)
        page = await one.http.get(answer.headers["location"])
        again = await one.post("/dead-letters/dry-run", {"queue": "a", "group": "0a1b2c3d"})
    assert answer.status_code == again.status_code == 303
    assert page.status_code == 200
    assert "Dry run of all dead letters" in page.text


@pytest.mark.parametrize(("valid", "warns"), [(0, True), (1, False), (None, False)])
async def test_a_replay_of_nothing_but_refused_bodies_is_no_obvious_choice(
    valid: int | None, *, warns: bool
) -> None:
    """The page says that each would be dead-lettered again, and its button is a plain one."""
    async with browser(allow_changes=True) as one:
        work = one.app.state.desk.letters
        answer = await one.post("/dead-letters/dry-run", ALL)
        job = work.jobs.latest()[0]
        await work.jobs.stop(job)
        job.rehearsed = Rehearsed(meant=2, valid=valid)
        page = await one.http.get(answer.headers["location"])
    assert ("takes none of these bodies" in page.text) == warns
    assert ('<button class="main">Replay 2 dead letters' in page.text) == (not warns)
