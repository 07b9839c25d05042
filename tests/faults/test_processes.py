"""`mqkit run --processes` and `--reload`: what becomes of the processes and of their messages."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from sqlalchemy import text

from mqkit.cli.supervisor.protocol import WorkerJob
from mqkit.cli.supervisor.supervisor import Supervisor
from mqkit.store import Store
from mqkit.testing.brokers import processes
from mqkit.testing.brokers.finder import Broker
from tests.forked import Command
from tests.support import ROOT, Client, ServiceProcess, connected, eventually

pytestmark = pytest.mark.in_turn

SERVICES = "tests.faults.process_services"

AWAY = "amqp://guest:guest@127.0.0.1:1/"


@contextlib.contextmanager
def supervised(
    service: str, log: Path, *options: str, names: Mapping[str, str], cwd: Path = ROOT
) -> Iterator[ServiceProcess]:
    """`mqkit run` as a shell starts it, in a process group of its own; nothing of it is left."""
    with log.open("ab") as out:
        process = Command(
            ["run", service, *options],
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": str(ROOT), **names},
            stdout=out,
            stderr=out,
            process_group=0,
        )
    try:
        yield ServiceProcess(process, log)
    finally:
        processes.kill(processes.tree(process.pid))
        process.wait()


def pids(process: ServiceProcess) -> list[int]:
    """The processes that were started, in their order, those that have ended among them."""
    return [int(pid) for pid in re.findall(r"started, pid (\d+)", process.text())]


async def says_times(process: ServiceProcess, words: str, times: int) -> None:
    """Wait until its output has these words so often."""
    await eventually(
        lambda: process.text().count(words) >= times, 60, f"{words!r} x{times} in {process.text()}"
    )


def noted(out: Path) -> list[tuple[str, ...]]:
    """What the handlers noted: what, which message, which process."""
    return [tuple(line.split()) for line in out.read_text().splitlines()] if out.exists() else []


def begun(out: Path) -> int:
    """How many runs there were until now."""
    return sum(what == "began" for what, *_ in noted(out))


def overlapping(notes: Sequence[tuple[str, ...]], dead: set[str]) -> list[tuple[str, ...]]:
    """Runs that began while another process, which is not dead, still had their message."""
    found, running = [], dict[str, str]()
    for note in notes:
        what, message, pid = note
        if what == "began":
            if running.get(message, pid) not in {pid, *dead}:
                found.append(note)
            running[message] = pid
        else:
            running.pop(message, None)
    return found


def environment(url: str, name: str, tmp_path: Path) -> dict[str, str]:
    """For the services of this module."""
    return {
        "MQKIT_URL": url,
        "MQKIT_TEST_QUEUE": f"{name}.q",
        "MQKIT_TEST_OUT": str(tmp_path / "out"),
        "MQKIT_TEST_BROKEN": str(tmp_path / "broken"),
    }


async def publish(client: Client, name: str, count: int, seconds: float, *, first: int = 0) -> None:
    """Messages that take so long each; their ids are numbers."""
    for n in range(first, first + count):
        await client.publisher.publish("", f"{name}.q", {"seconds": seconds}, message_id=str(n))


async def test_a_killed_process_is_started_again_and_loses_nothing(
    broker: Broker, name: str, tmp_path: Path
) -> None:
    """Its messages are handled by others, none by two at a time, and the log says how it ended."""
    out = tmp_path / "out"
    options = ("--processes", "2")
    names = environment(broker.url, name, tmp_path)
    async with connected(broker.url) as client:
        with supervised(f"{SERVICES}:at_once", tmp_path / "log", *options, names=names) as process:
            await says_times(process, ": ready", 2)
            await publish(client, name, 200, 0.02)
            await eventually(lambda: begun(out) > 40)
            first, second = pids(process)
            os.kill(second, signal.SIGKILL)
            await process.says("process 2 was killed by SIGKILL; starting it again in")
            await says_times(process, ": ready", 3)
            await publish(client, name, 20, 0.1, first=200)
            await eventually(lambda: len({n[1] for n in noted(out) if n[0] == "done"}) == 220)
            third = str(pids(process)[2])
            process.send(signal.SIGTERM)
            assert await process.ends() == 0, process.text()
        notes = noted(out)
        assert overlapping(notes, {str(second)}) == []
        assert {pid for _, _, pid in notes} == {str(first), str(second), third}
        assert await client.messages(f"{name}.q") == 0
        assert await client.messages(f"{name}.q.dead") == 0
    assert "restarts: 1" in process.text().splitlines()[-1]


@pytest.mark.parametrize("whom", ["supervisor", "terminal", "control group"])
async def test_a_signal_drains_all_of_them_once(
    mqkit_embedded: Broker, name: str, tmp_path: Path, whom: str
) -> None:
    """SIGTERM, Ctrl-C and SIGTERM to every process let all handlers finish, and it exits 0."""
    out, names = tmp_path / "out", environment(mqkit_embedded.url, name, tmp_path)
    async with connected(mqkit_embedded.url) as client:
        with supervised(
            f"{SERVICES}:one_by_one", tmp_path / "log", "--processes", "2", names=names
        ) as process:
            await says_times(process, ": ready", 2)
            await publish(client, name, 5, 1.0)
            await eventually(lambda: begun(out) == 2)
            match whom:
                case "supervisor":
                    process.send(signal.SIGTERM)
                case "terminal":
                    os.killpg(process.process.pid, signal.SIGINT)
                case _:
                    processes.send(processes.tree(process.process.pid), signal.SIGTERM)
            assert await process.ends() == 0, process.text()
        assert [n[0] for n in noted(out)] == ["began", "began", "done", "done"]
        assert {n[2] for n in noted(out)} == {str(pid) for pid in pids(process)}
        assert await client.messages(f"{name}.q") == 3
    log = process.text()
    assert "again" not in log
    assert log.count("draining, 1 in flight") == 2
    for line in log.splitlines():
        assert re.match(r"\[(supervisor|one-by-one\.[12])\] \d{4}-\S+ \S+ +[A-Z]+ +\S", line), line
    assert "take_one: 2 acked" in log.splitlines()[-1]
    assert "in flight: 0; restarts: 0" in log.splitlines()[-1]


async def test_a_second_signal_hurries_all_of_them(
    mqkit_embedded: Broker, name: str, tmp_path: Path
) -> None:
    """It does not wait for the handlers, gives their messages back, and exits 1 as one would."""
    out, names = tmp_path / "out", environment(mqkit_embedded.url, name, tmp_path)
    async with connected(mqkit_embedded.url) as client:
        with supervised(
            f"{SERVICES}:one_by_one", tmp_path / "log", "--processes", "2", names=names
        ) as process:
            await says_times(process, ": ready", 2)
            await publish(client, name, 2, 60.0)
            await eventually(lambda: begun(out) == 2)
            process.send(signal.SIGTERM)
            await says_times(process, "draining, 1 in flight", 2)
            process.send(signal.SIGTERM)
            assert await process.ends(10) == 1
        assert await client.messages(f"{name}.q") == 2
    assert "SIGTERM again: not waiting any longer" in process.text()


async def test_when_the_supervisor_is_killed_its_processes_drain(
    mqkit_embedded: Broker, name: str, tmp_path: Path
) -> None:
    """They finish what they are at, take nothing more, and end."""
    out, names = tmp_path / "out", environment(mqkit_embedded.url, name, tmp_path)
    async with connected(mqkit_embedded.url) as client:
        with supervised(
            f"{SERVICES}:one_by_one", tmp_path / "log", "--processes", "2", names=names
        ) as process:
            await says_times(process, ": ready", 2)
            await publish(client, name, 4, 1.0)
            await eventually(lambda: begun(out) == 2)
            children = processes.tree(process.process.pid)
            process.send(signal.SIGKILL)
            try:
                await eventually(lambda: not any(processes.is_alive(pid) for pid in children))
            finally:
                processes.kill(pid for pid in children if processes.is_alive(pid))
        assert [n[0] for n in noted(out)] == ["began", "began", "done", "done"]
        assert await client.messages(f"{name}.q") == 2
    assert process.text().count("the supervisor is gone: stopping") == 2


async def test_what_does_not_end_is_killed(
    mqkit_embedded: Broker,
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A process whose loop is held up cannot drain, and does not hold up the end of all others."""
    out, names = tmp_path / "out", environment(mqkit_embedded.url, name, tmp_path)
    for key, value in names.items():
        monkeypatch.setenv(key, value)
    job = WorkerJob(service=f"{SERVICES}:blocking", grace=0.5)
    supervisor = Supervisor(job, 1, overstay=0.5)
    async with connected(mqkit_embedded.url) as client:
        running = asyncio.create_task(supervisor.run())
        await eventually(lambda: "ready" in supervisor.states[0])
        await publish(client, name, 1, 0.0)
        await publish(client, name, 1, 60.0, first=1)
        await eventually(lambda: begun(out) == 2)
        supervisor.stop()
        began = time.monotonic()
        assert await running == 1
        assert 0.9 < time.monotonic() - began < 5
        assert await client.messages(f"{name}.q") == 1
    assert "did not end in time: killing it" in caplog.text


@pytest.mark.parametrize(
    ("service", "options", "code", "words", "why"),
    [
        (f"{SERVICES}:nope", [], 2, "has no 'nope'", "ended with exit code 2"),
        (
            f"{SERVICES}:at_once",
            ["--connect-deadline", "0.2"],
            1,
            "127.0.0.1:1: Connection refused",
            "ended with exit code 1",
        ),
        (f"{SERVICES}:broken", [], 1, "this service is broken", "ended with exit code 1"),
        (f"{SERVICES}:killed", [], 1, "starting it again", "was killed by SIGKILL"),
    ],
)
async def test_a_service_that_cannot_start_is_given_up(
    tmp_path: Path, name: str, service: str, options: list[str], code: int, words: str, why: str
) -> None:
    """It says once what is wrong, and ends with the exit code that one process would have."""
    does = {"broken": "raise", "killed": "kill"}.get(service.rpartition(":")[2])
    if does is not None:
        (tmp_path / "broken").write_text(does)
    names = environment(AWAY, name, tmp_path)
    with supervised(
        service, tmp_path / "log", "--processes", "3", *options, names=names
    ) as process:
        assert await process.ends() == code, process.text()
    log = process.text()
    assert words in log
    assert f"process 1 {why} before it was ready: the service cannot start, giving up" in log
    assert len(pids(process)) == (3 if does == "kill" else 1)
    assert ("Traceback" in log) == (does == "raise")


async def test_a_broker_that_is_away_is_waited_for(name: str, tmp_path: Path) -> None:
    """As one process does; and a signal ends it meanwhile, with 0."""
    names = environment(AWAY, name, tmp_path)
    with supervised(
        f"{SERVICES}:at_once", tmp_path / "log", "--processes", "3", names=names
    ) as process:
        await process.says("at-once.consume: ")
        process.send(signal.SIGTERM)
        assert await process.ends(10) == 0, process.text()
    assert len(pids(process)) == 1


@pytest.mark.parametrize(("breaks_with", "code"), [("raise", 0), ("2", 2)])
async def test_what_was_ready_once_is_tried_until_it_can_start(
    mqkit_embedded: Broker, name: str, tmp_path: Path, breaks_with: str, code: int
) -> None:
    """A failure to start again is no end; a service that is configured wrongly by now is one."""
    names, broken = environment(mqkit_embedded.url, name, tmp_path), tmp_path / "broken"
    with supervised(
        f"{SERVICES}:at_once", tmp_path / "log", "--processes", "2", names=names
    ) as process:
        await says_times(process, ": ready", 2)
        broken.write_text(breaks_with)
        os.kill(pids(process)[1], signal.SIGKILL)
        if code == 0:
            await process.says("process 2 ended with exit code 1 before it was ready; starting")
            broken.unlink()
            await says_times(process, ": ready", 3)
            process.send(signal.SIGTERM)
        assert await process.ends() == code, process.text()
    assert ("giving up" in process.text()) == (code == 2)
    assert re.findall(r"\[at-once.1\] .* at-once: stopped", process.text())


async def test_a_second_process_that_cannot_start_ends_nothing(
    mqkit_embedded: Broker, name: str, tmp_path: Path
) -> None:
    """The first one goes on, the second one is tried again with waits, and it starts in the end."""
    names, broken = environment(mqkit_embedded.url, name, tmp_path), tmp_path / "broken"
    broken.write_text("second 3")
    with supervised(
        f"{SERVICES}:at_once", tmp_path / "log", "--processes", "2", names=names
    ) as process:
        await says_times(process, "process 2 ended with exit code 3 before it was ready; start", 2)
        broken.unlink()
        await process.says("process 2: ready")
        process.send(signal.SIGTERM)
        assert await process.ends() == 0, process.text()
    assert process.text().count("process 1: started") == 1
    assert "giving up" not in process.text()


@pytest.mark.parametrize("code", [0, 7])
async def test_a_module_that_exits_ends_the_command_with_its_code(
    tmp_path: Path, name: str, code: int
) -> None:
    """As with one process, at its first start, and 0 is no failure to be tried again."""
    (tmp_path / "broken").write_text(str(code))
    names = environment(AWAY, name, tmp_path)
    log = tmp_path / "log"
    for options in ([], ["--processes", "2"]):
        with supervised(f"{SERVICES}:at_once", log, *options, names=names) as process:
            assert await process.ends() == code, process.text()
    assert log.read_text().count("process 1: started") == 1


async def test_each_line_of_a_process_begins_with_its_label(
    mqkit_embedded: Broker, name: str, tmp_path: Path
) -> None:
    """What a handler prints, its log and every line of a traceback, at the start and later."""
    names, broken = environment(mqkit_embedded.url, name, tmp_path), tmp_path / "broken"
    with supervised(
        f"{SERVICES}:printing", tmp_path / "log", "--processes", "2", names=names
    ) as process:
        await says_times(process, ": ready", 2)
        async with connected(mqkit_embedded.url) as client:
            await client.publisher.publish("", f"{name}.q", {"seconds": 0.0})
        await process.says("the second line")
        broken.write_text("raise")
        os.kill(pids(process)[1], signal.SIGKILL)
        await process.says("RuntimeError: this service is broken")
        broken.unlink()
        await says_times(process, ": ready", 3)
        process.send(signal.SIGTERM)
        assert await process.ends() == 0, process.text()
    labels = re.compile(r"\[(supervisor|process [12]|printing\.[12])\] ")
    lines = process.text().splitlines()
    assert [line for line in lines if not labels.match(line)] == []
    assert any(re.match(r"\[printing\.[12]\] printed$", line) for line in lines)
    assert any(
        re.match(r"\[printing\.[12]\]   ValueError: the first line$", line) for line in lines
    )
    assert any(
        re.match(r"\[process 2\] +RuntimeError: this service is broken$", line) for line in lines
    )


async def test_it_tells_how_its_processes_are(name: str, tmp_path: Path) -> None:
    """SIGUSR1 logs each one and the sums; with --embedded, the supervisor has the broker."""
    out, names = tmp_path / "out", environment(AWAY, name, tmp_path)
    with supervised(
        f"{SERVICES}:one_by_one", tmp_path / "log", "--processes", "2", "--embedded", names=names
    ) as process:
        await says_times(process, ": ready", 2)
        (port,) = re.findall(r"mqkit embedded broker .*:(\d+)/", process.text())
        async with connected(f"amqp://guest:guest@127.0.0.1:{port}/") as client:
            await publish(client, name, 10, 0.0)
            await publish(client, name, 1, 60.0)
            await eventually(lambda: begun(out) == 11)

            def told() -> bool:
                # It is asked again, since a report is up to a second old.
                process.send(signal.SIGUSR1)
                return "take_one: 10 acked; published: 0; in flight: 1; restarts: 0" in (
                    process.text()
                )

            await eventually(told)
        for number, pid in enumerate(pids(process), start=1):
            assert f"process {number}: ready, pid {pid}, in flight: " in process.text()
        process.send(signal.SIGTERM)
        await process.says("draining, 1 in flight")
        process.send(signal.SIGTERM)
        assert await process.ends() == 1


async def test_processes_share_a_store_in_a_file(
    mqkit_embedded: Broker, name: str, tmp_path: Path
) -> None:
    """Each message has its one effect in SQLite, whichever process handled it."""
    store_url = f"sqlite+aiosqlite:///{tmp_path / 'store.sqlite'}"
    names = {"MQKIT_URL": mqkit_embedded.url, "MQKIT_STORE": store_url, "TEST_NAME": name}
    async with Store(store_url, relay=False) as store, connected(mqkit_embedded.url) as client:
        async with store.transaction() as transaction:
            for table in ("postings (order_id TEXT, amount INTEGER)", "notices (order_id TEXT)"):
                await transaction.execute(text(f"CREATE TABLE {table}"))
        with supervised(
            "tests.integration.store_services:both",
            *(tmp_path / "log", "--processes", "2"),
            names=names,
        ) as process:
            await says_times(process, ": ready", 2)
            ids = [f"o-{n:03}" for n in range(60)]
            for n, one in enumerate(ids):
                await client.publisher.publish(
                    "", f"{name}.orders", {"id": one, "amount": n}, message_id=one
                )

            async def all_noted() -> bool:
                async with store.transaction() as transaction:
                    rows = await transaction.execute(text("SELECT order_id FROM notices"))
                    return sorted(row[0] for row in rows) == ids

            await eventually(all_noted)
            process.send(signal.SIGTERM)
            assert await process.ends() == 0, process.text()
        async with store.transaction() as transaction:
            rows = await transaction.execute(text("SELECT order_id FROM postings"))
            assert sorted(row[0] for row in rows) == ids
    last = process.text().splitlines()[-1]
    assert "note: 60 acked" in last
    assert "post: 60 acked" in last


SHOP = """
from mqkit import Queue, Retry, Service

service = Service("shop", retry=Retry.never())


@service.handler(Queue("{queue}"))
async def sell(body: bytes) -> None:
    print("{words}", flush=True)
"""


async def test_a_change_is_run_at_once_and_a_mistake_is_waited_out(
    mqkit_embedded: Broker, name: str, tmp_path: Path
) -> None:
    """New code runs after its file is written; a syntax error is printed and ends nothing."""
    shop = tmp_path / "shop"
    shop.mkdir()
    code = shop / "shop_for_reload.py"
    code.write_text(SHOP.format(queue=f"{name}.q", words="old code"))
    async with connected(mqkit_embedded.url) as client:
        with supervised(
            "shop_for_reload:service",
            *(tmp_path / "log", "--reload"),
            cwd=shop,
            names={"MQKIT_URL": mqkit_embedded.url},
        ) as process:
            await says_times(process, ": consuming", 1)
            await client.publisher.publish("", f"{name}.q", b"")
            await process.says("old code")
            code.write_text("def broken(:\n")
            await process.says("SyntaxError")
            await process.says("ended with exit code 1; waiting for a change")
            code.write_text(SHOP.format(queue=f"{name}.q", words="new code"))
            await says_times(process, ": consuming", 2)
            await client.publisher.publish("", f"{name}.q", b"")
            await process.says("new code")
            began = time.monotonic()
            os.killpg(process.process.pid, signal.SIGINT)
            assert await process.ends(10) == 0, process.text()
            assert time.monotonic() - began < 5
    assert process.text().count("old code\n") == 1
