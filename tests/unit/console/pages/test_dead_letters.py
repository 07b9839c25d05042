"""The pages of dead letters, without a broker; with one: tests/integration/console."""

from __future__ import annotations

import pytest

from mqkit.console.pages.dead_letters import DeadQueue, dead_queues
from mqkit.overview.values import Overview, Role
from tests.unit.console.samples import NOW, browser, queue, shop


def test_queues_are_counted_with_their_archives() -> None:
    """Those with the most dead letters first; an archive stands for itself, too."""
    queues = (
        queue("a.dead", Role.DEAD, of="a", ready=1),
        queue("b.dead", Role.DEAD, ready=7),
        queue("c.dead.archive", Role.ARCHIVE, of="c", ready=3),
        queue("a.dead.archive", Role.ARCHIVE, of="a", ready=2),
        queue("work"),
    )
    assert dead_queues(Overview(NOW, "", (), (), queues)) == [
        DeadQueue("b", 7, 0),
        DeadQueue("a", 1, 2),
        DeadQueue("c", 0, 3),
    ]


async def test_queues_without_dead_letters_are_left_out() -> None:
    """Unless they are asked for."""
    queues = (queue("a.dead", Role.DEAD, of="a", ready=0), queue("b.dead", Role.DEAD, of="b"))
    async with browser(shop(queues=queues)) as one:
        some = (await one.get("/dead-letters")).text
        every = (await one.get("/dead-letters", empty="yes")).text
    assert "queue=b" in some
    assert "queue=a" not in some
    assert "queue=a" in every


async def test_a_system_without_dead_letters_says_so() -> None:
    """And one of which nothing is known yet does not."""
    async with browser(shop(queues=(queue("a"),))) as one:
        assert "There are no dead letters" in (await one.get("/dead-letters")).text
    async with browser(Overview(NOW, "", (), (), ())) as one:
        page = (await one.get("/dead-letters")).text
    assert "There are no dead letters" not in page
    assert "not known yet" in page


@pytest.mark.parametrize("name", ["", "x" * 300, "a\x00b"])
async def test_what_is_no_name_of_a_queue_is_refused(name: str) -> None:
    """With 400, before anything is asked of the broker."""
    async with browser() as one:
        for page in ("queue", "group", "letter", "audit"):
            answer = await one.get(f"/dead-letters/{page}", queue=name, ref="1", group="1")
            assert answer.status_code == 400


async def test_a_letter_without_a_ref_is_none() -> None:
    """Its address was cut."""
    async with browser() as one:
        assert (await one.get("/dead-letters/letter", queue="a")).status_code == 400


async def test_to_look_again_leads_back() -> None:
    """To the page that it was asked from, and to no other site."""
    async with browser() as one:
        back = await one.post("/dead-letters/look", {"queue": "a", "next": "/dead-letters?q=a"})
        away = await one.post("/dead-letters/look", {"queue": "a", "next": "//evil.example"})
    assert (back.status_code, back.headers["location"]) == (303, "/dead-letters?q=a")
    assert away.headers["location"] == "/"
