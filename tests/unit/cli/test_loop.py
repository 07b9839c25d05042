"""The event loop of `mqkit run`."""

from __future__ import annotations

import asyncio

import pytest
import uvloop

from mqkit.cli import loop
from mqkit.errors import ConfigurationError


async def running_loop() -> type[asyncio.AbstractEventLoop]:
    return type(asyncio.get_running_loop())


@pytest.mark.parametrize("name", [None, "uvloop"])
def test_it_is_uvloop_where_that_is_installed(name: str | None) -> None:
    """Without being asked for, too."""
    with loop.runner(name) as runner:
        assert runner.run(running_loop()) is uvloop.Loop


@pytest.mark.parametrize("name", [None, "asyncio"])
def test_it_is_asyncios_otherwise(name: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it was asked for, and where uvloop is not installed."""
    if name is None:
        monkeypatch.setattr(loop, "find_spec", lambda _: None)
    with loop.runner(name) as runner:
        assert issubclass(runner.run(running_loop()), asyncio.SelectorEventLoop)


def test_a_loop_that_is_not_installed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to install."""
    monkeypatch.setattr(loop, "find_spec", lambda _: None)
    with pytest.raises(ConfigurationError, match=r"pip install 'mqkit\[uvloop\]'"):
        loop.check_loop("uvloop")


def test_a_typo_is_told() -> None:
    """With the name that was meant."""
    with pytest.raises(ConfigurationError, match=r"'uvlop'; did you mean uvloop\?"):
        loop.check_loop("uvlop")
