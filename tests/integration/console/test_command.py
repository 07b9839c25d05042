"""`mqkit console`, as a process: how it starts, lets in, waits for its broker, and ends."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import httpx
import pytest

from mqkit.testing.brokers.broker import Broker
from mqkit.testing.brokers.probe import free_ports
from tests.forked import Command, finished
from tests.integration.dead_letters.support import fill
from tests.support import connected, eventually

pytestmark = pytest.mark.in_turn

TOKEN = "a token for tests only"
LINK = re.compile(r"(http://127\.0\.0\.1:\d+)/login\?code=(\S+)")
AWAY = "amqp://guest:planted@127.0.0.1:1/"


class Started:
    """A console that runs, and what it printed."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self.process, self._log = process, log
        found = LINK.search(self.printed)
        assert found is not None
        self.origin, self.code = found[1], found[2]

    @property
    def printed(self) -> str:
        """All that it has printed until now."""
        return self._log.read_text()

    @contextlib.contextmanager
    def browser(self) -> Iterator[httpx.Client]:
        """A browser that has used the link."""
        with httpx.Client(base_url=self.origin) as http:
            assert http.get("/login", params={"code": self.code}).status_code == 200
            yield http

    def takes(self, token: str) -> bool:
        """Whether another browser is let in by a token."""
        with httpx.Client(base_url=self.origin) as http:
            http.post("/login", data={"token": token})
            return http.get("/").status_code == 200

    def end(self, number: signal.Signals = signal.SIGINT) -> int:
        """Tell it to stop, and return its exit code."""
        self.process.send_signal(number)
        return self.process.wait(15)


@contextlib.asynccontextmanager
async def console(log: Path, *options: str, **environment: str) -> AsyncIterator[Started]:
    """A console on a free port."""
    env = {**os.environ, **environment}
    with log.open("w") as out:
        process = Command(["console", "--listen", "0", *options], env=env, stdout=out, stderr=out)
    try:
        await eventually(lambda: bool(LINK.search(log.read_text())), 30, what="the link")
        yield Started(process, log)
    finally:
        process.kill()
        process.wait()


def refused(*arguments: str, **environment: str) -> CompletedProcess[str]:
    """Run a command that is to fail."""
    return finished(("console", *arguments), {**os.environ, "MQKIT_URL": AWAY, **environment})


async def test_it_shows_a_broker_until_it_is_interrupted(broker: Broker, tmp_path: Path) -> None:
    """The link opens it, pages name the broker, Ctrl-C ends it with 0, and nothing was logged."""
    async with console(tmp_path / "log", "--url", broker.url, "--log-level", "debug") as one:
        with one.browser() as http:

            def is_seen() -> bool:
                return "not connected" not in http.get("/").text

            await eventually(is_seen, what="the broker")
            assert http.get("/queues").status_code == 200
            assert http.get("/login", params={"code": one.code}).status_code == 403
        token = re.search(r"the token (\S+)", one.printed)
        assert token is not None
        assert one.takes(token[1])
        assert one.end() == 0
        assert "Traceback" not in one.printed
        assert one.printed.count(one.code) == one.printed.count(token[1]) == 1, "once: not logged"


async def test_a_token_that_was_given_is_not_printed(broker: Broker, tmp_path: Path) -> None:
    """From a file or the environment; the file may end with a line's end."""
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    async with console(tmp_path / "log", "--url", broker.url, "--token-file", str(file)) as one:
        assert one.takes(TOKEN)
        assert one.end(signal.SIGTERM) == 0
        assert TOKEN not in one.printed


async def test_it_waits_for_a_broker_that_is_away(tmp_path: Path) -> None:
    """Pages are there meanwhile and say so; once it is there they show it, until it has gone."""
    (port,) = free_ports(1)
    url = f"amqp://guest:guest@127.0.0.1:{port}/"
    async with console(tmp_path / "log", "--url", url) as one:
        with one.browser() as http:
            page = http.get("/")
            assert page.status_code == 200
            assert "not connected to the broker yet" in page.text
            server = Command(["broker", "--port", f"{port}"], env=os.environ)
            try:

                def is_seen() -> bool:
                    return "mqkit embedded" in http.get("/").text

                await eventually(is_seen, 30, what="the broker")
                server.kill()
                server.wait()

                def is_missed() -> bool:
                    page = http.get("/queues")
                    return page.status_code == 200 and "not connected to the broker" in page.text

                await eventually(is_missed, 30, what="that it is away")
            finally:
                server.kill()
                server.wait()
        assert one.end() == 0


async def test_ctrl_c_in_a_replay_loses_nothing(broker: Broker, name: str, tmp_path: Path) -> None:
    """It ends with 0 within seconds; what was replayed is in its queue, and the rest is dead."""
    options = ("--url", broker.url, "--allow-changes")
    async with connected(broker.url) as client:
        await fill(client, name, [b"{}"] * 200)
        async with console(tmp_path / "log", *options) as one:
            with one.browser() as http:
                page = http.get("/dead-letters").text
                csrf = re.search(r'name="csrf" value="([^"]+)"', page)
                assert csrf is not None
                form = {"csrf": csrf[1], "queue": name, "all": "yes", "why": "x", "rate": "20"}
                there = http.post("/dead-letters/replay", data=form).headers["location"]

                def has_begun() -> bool:
                    done = re.search(r"(\d+) replayed", http.get(there).text)
                    return done is not None and int(done[1]) >= 3

                await eventually(has_begun, what="the replay")
            assert one.end() == 0
            assert "Traceback" not in one.printed
        replayed = await client.messages(name)

        async def is_given_back() -> bool:
            return await client.messages(f"{name}.dead") + replayed in (200, 201)

        await eventually(is_given_back, what="the rest")
        assert 3 <= replayed < 200


def test_a_port_that_another_has_is_said() -> None:
    """With the option that names another one; exit code 1."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = refused("--listen", str(taken.getsockname()[1]))
    assert done.returncode == 1
    assert "cannot listen on 127.0.0.1:" in done.stderr
    assert "--listen names another port" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "environment", "why"),
    [
        (["--listen", "a:b:c"], {}, "not [HOST:]PORT"),
        (["--url", "http://a"], {}, "a broker URL starts with amqp"),
        (["--management", "amqp://a:planted@b"], {}, "URL of the management API"),
        (["--store", "mysql://a:planted@b/c"], {}, "SQLite or PostgreSQL"),
        (["--token-file", "/nowhere/at/all"], {}, "cannot be read"),
        (["--service", "no_such_module:x"], {}, "no module"),
        (["--who", " "], {}, "--who"),
        ([], {"MQKIT_CONSOLE_TOKEN": "short"}, "16 to 1000 characters, not 5"),
        ([], {"MQKIT_CONSOLE_TOKEN": ""}, "not 0"),
        (["--log-level", "loud"], {}, "is not a log level"),
    ],
)
def test_what_is_wrong_is_said_at_once(
    arguments: list[str], environment: dict[str, str], why: str
) -> None:
    """With exit code 2, before it listens, and without a password."""
    done = refused("--listen", "0", *arguments, **environment)
    assert done.returncode == 2
    assert why in done.stderr
    assert "planted" not in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


def test_without_its_libraries_it_says_what_to_install() -> None:
    """Which extra that is; and no other command needs it."""
    code = (
        "import sys; sys.modules['starlette'] = None; sys.argv[1:] = ['console']; "
        "from mqkit.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "pip install 'mqkit[console]'" in done.stderr
