"""Runs `async def` tests that use one of mqkit's fixtures, where no other plugin does.

So a test of a service needs no plugin beside mqkit's own. What the user has comes first: a test
that pytest-asyncio, anyio or pytest-trio would run is left to it. A test without a fixture of
mqkit's is none of ours, and pytest fails it as ever.

A test and its own async fixtures share one event loop, which ends with the test.
"""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import AsyncGenerator, Callable, Generator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import asyncio

__all__ = ["pytest_fixture_setup", "pytest_pyfunc_call"]

PREFIX = "mqkit_"
"""The names of mqkit's fixtures begin with it."""

_MARKS = ("asyncio", "anyio", "trio", "twisted")
"""Marks of tests that another plugin is to run, whose fixtures must not be on a loop of ours."""

_RUNNER = pytest.StashKey["asyncio.Runner"]()
_FIXTURES = pytest.StashKey[set[str]]()
"""The async fixtures of a test that were set up on its own event loop."""


@pytest.hookimpl
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> object | None:
    """Run an async test that is ours, and say of another one that pytest fails what it lacks.

    Other plugins run theirs before this is called (anyio), or leave no async function to it
    (pytest-asyncio, pytest-trio).
    """
    __tracebackhide__ = True
    test = pyfuncitem.obj
    if not inspect.iscoroutinefunction(test) or _is_marked(pyfuncitem):
        return None
    if not _has_fixture(pyfuncitem):
        _explain(
            pyfuncitem,
            "mqkit's plugin runs an async test that uses one of its fixtures, such as "
            "mqkit_harness, and this one uses none of them. A handler is called by "
            "asyncio.run(...) in a test that is not async; or let pytest-asyncio run this one.",
        )
        return None
    own: set[str] = pyfuncitem.stash.get(_FIXTURES, set())
    if foreign := _async_fixtures(pyfuncitem) - own:
        _explain(
            pyfuncitem,
            f"mqkit's plugin does not run this test, since its async fixture {min(foreign)!r} is "
            "on the event loop of another plugin: let that one run the test too, by its mark "
            "(@pytest.mark.asyncio), or make the fixture an ordinary one (@pytest.fixture).",
        )
        return None
    names = pyfuncitem._fixtureinfo.argnames  # noqa: SLF001 - as pytest and all such plugins do
    result = _runner(pyfuncitem).run(test(**{name: pyfuncitem.funcargs[name] for name in names}))
    if result is not None:
        text = f"{pyfuncitem.nodeid} returned {type(result).__name__}: write assert, not return"
        warnings.warn(pytest.PytestReturnNotNoneWarning(text), stacklevel=1)
    return True


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
) -> Generator[None, object, object]:
    """Make an async fixture of a test that is ours an ordinary one, on the test's event loop.

    It is the innermost: a fixture that another plugin runs is not async any more. One of a wider
    scope outlasts the test's event loop, and is left to pytest, which refuses it.
    """
    function, item = fixturedef.func, request.node
    is_ours = isinstance(item, pytest.Function) and _is_ours(item)
    if not (is_ours and _is_async(function)):
        return (yield)
    item.stash.setdefault(_FIXTURES, set()).add(fixturedef.argname)
    target: Any = fixturedef
    target.func = _synchronous(_bound(function, request.instance), functools.partial(_runner, item))
    try:
        return (yield)
    finally:
        target.func = function


def _is_ours(item: pytest.Function) -> bool:
    return inspect.iscoroutinefunction(item.obj) and _has_fixture(item) and not _is_marked(item)


def _has_fixture(item: pytest.Function) -> bool:
    return any(name.startswith(PREFIX) for name in item.fixturenames)


def _is_marked(item: pytest.Function) -> bool:
    return any(item.get_closest_marker(each) is not None for each in _MARKS)


def _is_async(function: object) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


def _async_fixtures(item: pytest.Function) -> set[str]:
    known = item._fixtureinfo.name2fixturedefs  # noqa: SLF001 - pytest tells it nowhere else
    return {name for name, found in known.items() if _is_async(found[-1].func)}


def _explain(item: pytest.Function, text: str) -> None:
    item.add_report_section("call", "mqkit", text)


def _runner(item: pytest.Function) -> asyncio.Runner:
    """Return the event loop of a test; it is made for who asks first, and ends after the test."""
    import asyncio  # noqa: PLC0415 - this module is imported where no test is async, too

    runner = item.stash.get(_RUNNER, None)
    if runner is None:
        runner = item.stash[_RUNNER] = asyncio.Runner()

        def close() -> None:
            # Another run of the same test (a rerun after a failure) begins anew.
            del item.stash[_RUNNER]
            runner.close()

        item.addfinalizer(close)
    return runner


def _bound(function: Callable[..., Any], instance: object) -> Callable[..., Any]:
    """Bind a fixture that is a method to the instance of the test's class."""
    if instance is None or not inspect.ismethod(function):
        return function
    if not isinstance(instance, type(function.__self__)):
        return function  # of a plugin's own object
    bound: Callable[..., Any] = function.__func__.__get__(instance)
    return bound


def _synchronous(
    function: Callable[..., Any], runner: Callable[[], asyncio.Runner]
) -> Callable[..., Any]:
    if not inspect.isasyncgenfunction(function):

        @functools.wraps(function)
        def run(**arguments: Any) -> Any:
            return runner().run(function(**arguments))

        return run

    @functools.wraps(function)
    def generate(**arguments: Any) -> Generator[Any, None, None]:
        values = function(**arguments)
        yield runner().run(_first(values))
        runner().run(_end(values, function.__name__))

    return generate


async def _first(values: AsyncGenerator[Any, None]) -> Any:
    return await anext(values)


async def _end(values: AsyncGenerator[Any, None], name: str) -> None:
    async for _ in values:
        pytest.fail(f"async fixture {name!r} has more than one yield", pytrace=False)
