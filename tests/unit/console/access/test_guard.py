"""What stands before every page: host, session, origin, form, and the headers of answers."""

from __future__ import annotations

import logging
from typing import Any

import httpx
import pytest
from starlette.datastructures import Headers

from mqkit.console.access.guard import foreign
from mqkit.console.desk import PAGES
from mqkit.console.pages.changing import NOT_ALLOWED
from tests.unit.console.samples import ORIGIN, TOKEN, Browser, browser

CHANGES = ("replay", "archive", "restore", "stop")
OWN = {"origin": ORIGIN, "sec-fetch-site": "same-origin"}

REFUSED: dict[str, tuple[str, str, dict[str, str], int]] = {
    "another host": ("GET", "/", {"host": "evil.example"}, 421),
    "another host with the port": ("GET", "/", {"host": "evil.example:8472"}, 421),
    "a host that begins alike": ("GET", "/", {"host": "127.0.0.1.evil.example"}, 421),
    "no host": ("GET", "/", {"host": ""}, 421),
    "another host asks for the login": ("GET", "/login", {"host": "evil.example"}, 421),
    "another host asks for a file": ("GET", "/static/console.css", {"host": "evil.example"}, 421),
    "another origin": ("POST", "/theme", {"origin": "http://evil.example"}, 403),
    "the same host at another port": ("POST", "/theme", {"origin": "http://127.0.0.1:1"}, 403),
    "an origin that is not said": ("POST", "/theme", {"origin": "null"}, 403),
    "another site": ("POST", "/theme", {"sec-fetch-site": "cross-site"}, 403),
    "a site beside it": ("POST", "/theme", {"sec-fetch-site": "same-site"}, 403),
    "another method": ("PUT", "/theme", {}, 405),
    "another method of a page": ("DELETE", "/queues", {}, 405),
}


@pytest.mark.parametrize(("method", "path", "headers", "status"), REFUSED.values(), ids=REFUSED)
async def test_what_comes_from_elsewhere_is_refused(
    method: str, path: str, headers: dict[str, str], status: int
) -> None:
    """A name that was bent to this address, another origin or site: refused, with the cookie."""
    async with browser(allow_changes=True) as one:
        data = {"csrf": await one.csrf(), "theme": "dark"} if method == "POST" else None
        answer = await one.http.request(method, path, headers=OWN | headers, data=data)
    assert answer.status_code == status
    assert "set-cookie" not in answer.headers


FORMS: dict[str, tuple[dict[str, Any], int]] = {
    "no secret": ({"data": {"theme": "dark"}}, 403),
    "another secret": ({"data": {"theme": "dark", "csrf": "x" * 43}}, 403),
    "an empty secret": ({"data": {"theme": "dark", "csrf": ""}}, 403),
    "no form": ({"json": {"theme": "dark"}}, 415),
    "a file": ({"files": {"theme": b"dark"}}, 415),
    "too large": ({"data": {"theme": "x" * 70_000}}, 413),
    "too many fields": ({"data": {f"f{n}": "" for n in range(300)}}, 400),
    "no text": (
        {
            "content": b"theme=\xff\xfe",
            "headers": OWN | {"content-type": "application/x-www-form-urlencoded"},
        },
        400,
    ),
}


@pytest.mark.parametrize(("sent", "status"), FORMS.values(), ids=FORMS)
async def test_a_form_without_the_sessions_secret_does_nothing(
    sent: dict[str, Any], status: int
) -> None:
    """The cookie alone moves nothing: the form must have what another site cannot know."""
    async with browser() as one:
        answer = await one.http.post("/theme", **{"headers": OWN, **sent})
    assert answer.status_code == status
    assert "set-cookie" not in answer.headers
    assert "nothing was done" in answer.text


async def test_the_secret_of_another_session_is_none() -> None:
    """What one browser's forms have is refused from another browser."""
    async with browser() as one:
        csrf = await one.csrf()
        other = Browser(one.app)
        async with other.http:
            await other.login()
            answer = await other.http.post("/theme", data={"csrf": csrf}, headers=OWN)
    assert answer.status_code == 403


SHOWN = [address for address, _ in PAGES] + [
    "/handlers/handler?service=a&name=b",
    "/dead-letters/queue?queue=a",
    "/dead-letters/job?id=1",
    "/nowhere",
]


@pytest.mark.parametrize("path", SHOWN)
async def test_without_the_token_nothing_is_shown(path: str) -> None:
    """Each page, and what is none, leads to the login, which tells nothing of the system."""
    async with browser(logged_in=False) as one:
        one.http.cookies.set("mqkit-console-8472", "made-up")
        answer = await one.http.get(path)
        login = await one.http.get(answer.headers["location"])
    assert answer.status_code == 303
    assert answer.content == b""
    assert login.status_code == 200
    for secret in ("ledger", "RabbitMQ", TOKEN):
        assert secret not in login.text


async def test_a_post_without_a_session_does_nothing() -> None:
    """Whatever it is for, it is answered with 403."""
    async with browser(logged_in=False, allow_changes=True) as one:
        for name in CHANGES:
            answer = await one.http.post(f"/dead-letters/{name}", data={"csrf": "x"}, headers=OWN)
            assert answer.status_code == 403


@pytest.mark.parametrize("name", CHANGES)
async def test_without_allow_changes_nothing_can_be_changed(name: str) -> None:
    """A request made by hand, with all that a form has, is refused with the reason."""
    fields = {"queue": "ledger.post", "all": "yes", "why": "by hand", "id": "1"}
    async with browser() as one:
        answer = await one.post(f"/dead-letters/{name}", fields)
        jobs = one.app.state.desk.letters.jobs.latest()
    assert answer.status_code == 403
    assert NOT_ALLOWED in answer.text
    assert jobs == []


async def test_a_change_cannot_be_asked_for_by_a_link() -> None:
    """GET on what changes something is refused, with and without --allow-changes."""
    for allow in (False, True):
        async with browser(allow_changes=allow) as one:
            for name in CHANGES:
                assert (await one.get(f"/dead-letters/{name}")).status_code == 405


async def test_every_answer_forbids_what_is_not_the_consoles_own() -> None:
    """Pages, files, redirects, refusals and failures: nothing foreign runs or keeps them."""
    async with browser() as one:
        answers = [
            await one.get("/"),
            await one.get("/nowhere"),
            await one.get("/static/console.css"),
            await one.http.get("/", headers={"host": "evil.example"}),
            await one.http.post("/theme", headers=OWN, data={}),
            await Browser(one.app).http.get("/"),
        ]
    stored = [each.headers["cache-control"] for each in answers]
    assert stored == ["no-store"] * 2 + ["no-cache"] + ["no-store"] * 3
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["referrer-policy"] == "same-origin"


async def test_who_follows_a_link_from_another_site_is_led_on() -> None:
    """The cookie is not sent along then; a page of the console's own asks again, with it."""
    async with browser(logged_in=False) as one:
        answer = await one.http.get("/queues?q=a", headers={"sec-fetch-site": "cross-site"})
    assert answer.status_code == 200
    assert '<meta http-equiv="refresh" content="0; url=/queues?q=a">' in answer.text
    assert "ledger" not in answer.text


async def test_an_unexpected_error_is_a_plain_page_and_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It has neither a traceback nor the error's text, which the log has, masked."""
    async with browser() as one:

        def fail() -> None:
            raise RuntimeError("password=hunter2-planted and more")

        one.app.state.desk._watching.overview = fail
        with caplog.at_level(logging.ERROR):
            answer = await one.get("/queues")
    assert answer.status_code == 500
    assert "Traceback" not in answer.text
    assert "RuntimeError" not in answer.text
    assert "the page /queues failed" in caplog.text
    assert "hunter2-planted" not in caplog.text
    assert answer.headers["content-security-policy"]


@pytest.mark.parametrize(
    ("headers", "is_own"),
    [
        ({}, True),
        ({"origin": "http://a:1"}, True),
        ({"origin": "https://A:1"}, True),
        ({"origin": "http://a:1", "sec-fetch-site": "same-origin"}, True),
        ({"origin": "http://a:1", "sec-fetch-site": "cross-site"}, False),
        ({"sec-fetch-site": "none"}, False),
        ({"origin": "http://a"}, False),
        ({"origin": "http://a:1.evil.example"}, False),
        ({"origin": ""}, False),
        ({"origin": "http://["}, False),
        ({"origin": "http://[::1"}, False),
    ],
)
def test_what_a_browser_says_of_a_forms_page(headers: dict[str, str], is_own: bool) -> None:
    """It is the console's own where all that the browser says agrees with that."""
    assert (foreign(Headers({"host": "a:1", **headers})) is None) is is_own


async def test_names_of_proxies_are_taken_if_they_are_allowed() -> None:
    """--allow-host lets a browser come by another name, in upper or lower case."""
    async with browser(hosts=frozenset({"Console.example"})) as one:
        for host in ("console.example", "CONSOLE.EXAMPLE:443", "localhost:8472", "[::1]:8472"):
            answer = await one.http.get("/login", headers={"host": host})
            assert answer.status_code == 200, host


async def test_head_is_answered_as_get() -> None:
    """Without a session it leads to the login, too."""
    async with browser(logged_in=False) as one:
        assert (await one.http.head("/queues")).status_code == 303


def _cookie(answer: httpx.Response) -> str:
    return answer.headers["set-cookie"].lower()


async def test_the_cookie_is_seen_by_no_script_and_no_other_site() -> None:
    """HttpOnly, SameSite=Strict, and by HTTPS alone where the browser came by that."""
    async with browser(logged_in=False) as one:
        plain = _cookie(await one.login())
        secure = _cookie(
            await one.http.post(
                "/login", data={"token": TOKEN}, headers=OWN | {"x-forwarded-proto": "https"}
            )
        )
    assert "httponly" in plain
    assert "samesite=strict" in plain
    assert "secure" not in plain
    assert "secure" in secure
