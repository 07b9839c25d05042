"""The token and the login link."""

from __future__ import annotations

import asyncio

from pydantic import SecretStr

from mqkit.console.access.tokens import LINK_LIFETIME, MOST_WAITING, Door


class Clock:
    """Seconds that a test moves."""

    now = 100.0

    def __call__(self) -> float:
        """Return them."""
        return self.now


def door(clock: Clock | None = None, slowed_by: float = 0.0) -> Door:
    """A door whose token is known here."""
    return Door(SecretStr("the token of this test"), clock=clock or Clock(), slowed_by=slowed_by)


async def test_the_token_opens_and_nothing_else_does() -> None:
    """Not a part of it, not with more, not in upper case, nor what is no text of UTF-8."""
    one = door()
    assert await one.takes("the token of this test")
    for wrong in (
        "",
        "the token of this",
        "the token of this test ",
        "THE TOKEN OF THIS TEST",
        "\ud800",
    ):
        assert not await one.takes(wrong)


async def test_a_link_opens_once() -> None:
    """Its code is worth nothing afterwards, and the token is as it was."""
    one = door()
    code = one.code()
    assert not await one.takes_code(f"{code}x")
    assert await one.takes_code(code)
    assert not await one.takes_code(code)
    assert await one.takes("the token of this test")


async def test_a_link_is_too_old_after_ten_minutes() -> None:
    """Whoever finds it in a terminal's history later cannot use it."""
    clock = Clock()
    one = door(clock)
    code = one.code()
    clock.now += LINK_LIFETIME
    assert not await one.takes_code(code)


async def test_without_a_link_no_code_opens() -> None:
    """The empty code is none."""
    assert not await door().takes_code("")


async def test_wrong_tokens_wait_and_are_few_at_a_time() -> None:
    """While five wait for their answer no more are looked at, were one of them right."""
    one = door(slowed_by=3_600)
    guesses = [asyncio.create_task(one.takes(f"guess {n}")) for n in range(MOST_WAITING)]
    await asyncio.sleep(0)
    assert one.is_overrun
    assert not await one.takes("the token of this test")
    for each in guesses:
        assert not each.done()
        each.cancel()
    await asyncio.gather(*guesses, return_exceptions=True)
    assert await one.takes("the token of this test")
