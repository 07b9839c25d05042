"""The thread with the event loop: when it starts, and how it ends."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import time
from typing import Any, cast

import pytest

from mqkit.blocking.background import Background, BackgroundEndedError
from mqkit.blocking.publisher import BlockingPublisher
from mqkit.publishing.publisher import Publisher
from tests.unit.blocking.fake_publisher import FakePublisher, install


def background() -> Background:
    return Background("background", cast(Publisher, FakePublisher()))


def test_a_lookup_that_hangs_keeps_nobody_from_exiting() -> None:
    """A program ends though the name of its broker is still being looked up."""
    script = (
        "import socket, time\n"
        "from mqkit import BlockingPublisher, ConnectionLostError\n"
        "socket.getaddrinfo = lambda *a, **k: time.sleep(60)\n"
        "try:\n"
        "    BlockingPublisher('amqp://broker.example/').publish('', 'q', b'', timeout=0.2)\n"
        "except ConnectionLostError:\n"
        "    print('it was told')\n"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, timeout=40, capture_output=True, text=True, check=True)
    assert done.stdout == "it was told\n"


def test_what_a_lookup_raises_comes_back() -> None:
    """An error of such a thread is the error of who waits for it."""

    async def fail() -> None:
        await asyncio.get_running_loop().run_in_executor(None, lambda: 1 // 0)

    behind = background()
    with pytest.raises(ZeroDivisionError):
        behind.run(fail)
    behind.close(1)


def test_it_ends_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """After `close` there is no thread and no loop, and nothing more is taken."""
    behind = background()
    thread = behind._thread
    behind.run(lambda: asyncio.sleep(0))
    behind.close(1)
    behind.close(1)
    assert not thread.is_alive()
    assert cast(Any, behind)._loop.is_closed()
    with pytest.raises(BackgroundEndedError) as raised:
        behind.call(lambda: None)
    assert not raised.value.begun


def test_what_waits_is_told_where_the_end_goes_wrong(caplog: pytest.LogCaptureFixture) -> None:
    """A bug at the end of the thread is logged, and leaves nobody waiting."""
    fake = FakePublisher()
    fake.fails_to_close = True
    behind = Background("background", cast(Publisher, fake))
    errors: list[BackgroundEndedError] = []
    begun = threading.Event()

    async def never() -> None:
        begun.set()
        await asyncio.Event().wait()

    def wait() -> None:
        try:
            behind.run(never)
        except BackgroundEndedError as error:
            errors.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    assert begun.wait(5)
    behind.close(1)
    waiting.join(5)
    assert [error.begun for error in errors] == [True]
    assert "background: the thread failed" in caplog.text


def test_one_that_nobody_has_any_more_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """A blocking publisher that was dropped unclosed disconnects, and its thread ends."""
    fake = install(monkeypatch)
    publisher = BlockingPublisher("amqp://127.0.0.1:1/")
    publisher.publish("", "queue", b"")
    thread = publisher._background()._thread
    del publisher
    gc.collect()
    thread.join(5)
    assert not thread.is_alive()
    assert fake.closed == 1


def test_many_threads_share_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that publish for the first time at once start one background thread."""
    fake = install(monkeypatch)
    with BlockingPublisher("amqp://127.0.0.1:1/", name="shared") as publisher:
        barrier = threading.Barrier(8)

        def publish() -> None:
            barrier.wait()
            publisher.publish("", "queue", b"")

        callers = [threading.Thread(target=publish) for _ in range(8)]
        for caller in callers:
            caller.start()
        deadline = time.monotonic() + 5
        for caller in callers:
            caller.join(deadline - time.monotonic())
        assert [each.name for each in threading.enumerate()].count("shared") == 1
    assert len(fake.taken) == 8
