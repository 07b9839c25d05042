from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent.parent

MQKIT = "mqkit.testing.plugin"
ASYNCIO = "pytest_asyncio.plugin"
ANYIO = "anyio.pytest_plugin"


def run(folder: Path, text: str, *args: str, plugins: tuple[str, ...] = ()) -> dict[str, str]:
    """Run a test file in an empty project with these plugins and mqkit's; outcomes by test."""
    (folder / "test_it.py").write_text(text)
    named = [option for plugin in (MQKIT, *plugins) for option in ("-p", plugin)]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-W", "error", "-rA", "--tb=short", *named, *args],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PYTEST_ADDOPTS": "",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    line = re.compile(r"^(PASSED|FAILED|ERROR) test_it\.py::(\w+)", re.MULTILINE)
    found = line.findall(done.stdout)
    return {test: outcome for outcome, test in found} | {"output": done.stdout + done.stderr}


ALONE = """
import asyncio
import contextvars

import pytest

from mqkit import Queue, Retry, Service

service = Service("s", retry=Retry.never())
seen = contextvars.ContextVar("seen", default=0)
told = []

@service.handler(Queue("q"))
async def handle(body: int) -> None:
    pass

async def test_a_harness(mqkit_harness):
    async with mqkit_harness(service) as h:
        assert (await h.outcome(await h.publish("", "q", 1))).acked

@pytest.fixture
async def h(mqkit_harness):
    async with mqkit_harness(service) as h:
        seen.set(1)
        yield h
        told.append(asyncio.get_running_loop())

@pytest.fixture
async def message(h):
    return await h.publish("", "q", 1)

class TestTheirs:
    @pytest.fixture
    async def own(self, h):
        told.append(asyncio.get_running_loop())
        return self

    async def test_of_a_class(self, h, message, own):
        assert (await h.outcome(message)).acked
        assert seen.get() == 1
        assert own is self

def test_the_fixtures_loop_is_one_and_has_ended():
    one, other = told
    assert one is other
    assert one.is_closed()

async def test_that_fails(mqkit_vhost):
    await asyncio.sleep(0)
    assert mqkit_vhost == "elsewhere"

async def test_that_returns(mqkit_vhost):
    return False

async def test_that_is_skipped(mqkit_vhost):
    pytest.skip("not today")

async def test_with_a_mistyped_fixture(mqkit_harnes):
    pass

async def test_without_a_fixture():
    pass

async def test_a_generator(mqkit_vhost):
    yield

@pytest.mark.asyncio
async def test_that_is_marked(mqkit_vhost):
    pass

@pytest.fixture(scope="module")
async def wide(mqkit_embedded):
    pass

async def test_a_wide_fixture(wide):
    pass

@pytest.fixture
async def twice(mqkit_vhost):
    yield 1
    yield 2

async def test_two_yields(twice):
    pass

def test_that_is_not_async(h):
    pass
"""


def test_mqkits_plugin_alone_runs_async_tests(tmp_path: Path) -> None:
    """Those of its fixtures run, with their own async fixtures; of others none passes unrun."""
    found = run(tmp_path, ALONE, "-W", "ignore::pytest.PytestUnknownMarkWarning")
    out = found.pop("output")
    assert found == {
        "test_a_harness": "PASSED",
        "TestTheirs": "PASSED",
        "test_the_fixtures_loop_is_one_and_has_ended": "PASSED",
        "test_that_fails": "FAILED",
        "test_that_returns": "FAILED",
        "test_with_a_mistyped_fixture": "ERROR",
        "test_without_a_fixture": "FAILED",
        "test_a_generator": "FAILED",
        "test_that_is_marked": "FAILED",
        "test_a_wide_fixture": "ERROR",
        "test_two_yields": "ERROR",
        "test_that_is_not_async": "ERROR",
    }, out
    assert "not today" in out
    assert "test_that_returns[embedded] returned bool: write assert, not return" in out
    assert "fixture 'mqkit_harnes' not found" in out
    assert "an async test that uses one of its fixtures, such as mqkit_harness" in out
    assert "async fixture 'twice' has more than one yield" in out
    assert "asyncio/" not in out, "a failure's traceback begins in the test"


WHO = """
import sys
import mqkit.testing.async_tests as ours

def by_mqkit():
    frame = sys._getframe()
    while frame is not None and frame.f_code is not ours.pytest_pyfunc_call.__code__:
        frame = frame.f_back
    return frame is not None
"""

BESIDE = (
    WHO
    + """
import asyncio

import pytest
import pytest_asyncio

@pytest_asyncio.fixture
async def theirs():
    return asyncio.get_running_loop()

@pytest.mark.asyncio
async def test_marked(mqkit_vhost, theirs):
    assert asyncio.get_running_loop() is theirs
    assert not by_mqkit()

@pytest.fixture
async def plain(mqkit_vhost):
    return asyncio.get_running_loop()

@pytest.mark.asyncio
async def test_marked_with_a_plain_fixture(plain):
    assert asyncio.get_running_loop() is plain

async def test_unmarked(mqkit_vhost, pytestconfig):
    assert by_mqkit() == (pytestconfig.getini("asyncio_mode") == "strict")

async def test_unmarked_with_their_fixture(mqkit_vhost, theirs):
    assert not by_mqkit()

async def test_without_mqkit():
    assert not by_mqkit()
"""
)


@pytest.mark.parametrize("mode", ["strict", "auto"])
def test_beside_pytest_asyncio(tmp_path: Path, mode: str) -> None:
    """What it would run is left to it; in strict mode mqkit runs what it would not."""
    is_strict = mode == "strict"
    options = ["-o", f"asyncio_mode={mode}", "-o", "asyncio_default_fixture_loop_scope=function"]
    found = run(tmp_path, BESIDE, *options, plugins=(ASYNCIO,))
    out = found.pop("output")
    assert found == {
        "test_marked": "PASSED",
        "test_marked_with_a_plain_fixture": "ERROR" if is_strict else "PASSED",
        "test_unmarked": "PASSED",
        "test_unmarked_with_their_fixture": "FAILED" if is_strict else "PASSED",
        "test_without_mqkit": "FAILED" if is_strict else "PASSED",
    }, out
    explained = "its async fixture 'theirs' is on the event loop of another plugin" in out
    assert explained == is_strict


WITH_ANYIO = (
    WHO
    + """
import pytest

@pytest.fixture(scope="module")
def anyio_backend():
    return "asyncio"

@pytest.fixture
async def either(mqkit_vhost):
    return by_mqkit()

@pytest.mark.anyio
async def test_marked(mqkit_vhost, either):
    assert not by_mqkit()

async def test_unmarked(mqkit_vhost, either, pytestconfig):
    assert by_mqkit() == (pytestconfig.getini("anyio_mode") == "strict")
"""
)


@pytest.mark.parametrize("mode", ["strict", "auto"])
def test_beside_anyio(tmp_path: Path, mode: str) -> None:
    """What it would run is left to it, by its mark or its fixture; mqkit runs the rest."""
    found = run(tmp_path, WITH_ANYIO, "-o", f"anyio_mode={mode}", plugins=(ANYIO,))
    out = found.pop("output")
    assert found == {"test_marked": "PASSED", "test_unmarked": "PASSED"}, out
