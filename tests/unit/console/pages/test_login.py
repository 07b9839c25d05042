"""Login, logout and where they lead."""

from __future__ import annotations

import pytest

from mqkit.console.access.addresses import own_path
from tests.unit.console.samples import ORIGIN, TOKEN, Browser, browser


async def test_the_token_leads_to_the_page_that_was_asked_for() -> None:
    """And the cookie opens it."""
    async with browser(logged_in=False) as one:
        asked = await one.get("/queues", q="led ger")
        assert asked.headers["location"] == "/login?next=%2Fqueues%3Fq%3Dled%2Bger"
        there = "/queues?q=led+ger"
        assert f'name="next" value="{there}"' in (await one.get(asked.headers["location"])).text
        answer = await one.http.post("/login", data={"token": TOKEN, "next": there})
        assert answer.headers["location"] == there
        assert (await one.get(there)).status_code == 200


@pytest.mark.parametrize("token", ["", "wrong", f"{TOKEN}x", TOKEN.upper()])
async def test_a_wrong_token_opens_nothing(token: str) -> None:
    """It is answered with the login again, and no cookie."""
    async with browser(logged_in=False) as one:
        answer = await one.login(token)
        assert answer.status_code == 403
        assert "This is not the token" in answer.text
        assert "set-cookie" not in answer.headers
        assert (await one.get("/")).status_code == 303


async def test_a_login_link_opens_once() -> None:
    """The second time it says that the token is to be given."""
    async with browser(logged_in=False) as one:
        code = one.app.state.desk.door.code()
        first = await one.get("/login", code=code)
        assert first.status_code == 200
        assert (await one.get("/")).status_code == 200
        other = Browser(one.app)
        async with other.http:
            second = await other.get("/login", code=code)
            assert second.status_code == 403
            assert "used already" in second.text
            assert "set-cookie" not in second.headers


async def test_after_a_logout_the_cookie_is_worth_nothing() -> None:
    """Also for whoever has kept it."""
    async with browser() as one:
        kept = dict(one.http.cookies)
        assert (await one.post("/logout")).headers["location"] == "/login"
        one.http.cookies.update(kept)
        assert (await one.get("/")).status_code == 303


async def test_a_login_begins_a_new_session() -> None:
    """One that somebody had put into the browser before ends."""
    async with browser() as one:
        before = dict(one.http.cookies)
        assert (await one.login()).status_code == 303
        assert dict(one.http.cookies) != before
        other = Browser(one.app)
        async with other.http:
            other.http.cookies.update(before)
            assert (await other.get("/")).status_code == 303


@pytest.mark.parametrize(
    "there",
    [
        *("http://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)"),
        *("", "queues", "/a\r\nset-cookie: x", "/" + "a" * 5_000, "\\/evil.example"),
    ],
)
async def test_a_login_leads_to_no_other_site(there: str) -> None:
    """Whatever stands in the address of the login."""
    assert own_path(there) == "/"
    async with browser(logged_in=False) as one:
        data = {"token": TOKEN, "next": there}
        answer = await one.http.post("/login", data=data, headers={"origin": ORIGIN})
    assert answer.headers["location"] == "/"


async def test_too_many_wrong_tokens_are_not_looked_at() -> None:
    """They are told to try later, and so is who has the right one, for some seconds."""
    async with browser(logged_in=False) as one:
        one.app.state.desk.door._waiting = 5
        answer = await one.login()
    assert answer.status_code == 429
