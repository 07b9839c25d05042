"""`mqkit broker` and `mqkit run --embedded`, as processes."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mqkit.embedded import version
from mqkit.testing.brokers.probe import free_ports
from tests.forked import Command
from tests.integration.test_cli import mqkit
from tests.support import connected, eventually, running


@contextlib.contextmanager
def broker_process(*options: str) -> Iterator[tuple[str, subprocess.Popen[str], str]]:
    """The broker on a free port: its URL, its process, and the line that it printed."""
    process = Command(
        ["broker", "--port", "0", *options],
        env=os.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"amqp://127\.0\.0\.1:(\d+)/", line)
        assert found, line
        yield f"amqp://guest:guest@127.0.0.1:{found[1]}/", process, line
    finally:
        process.kill()
        process.communicate()


async def test_it_says_what_it_is_and_takes_messages() -> None:
    """It names itself and says that it is in memory; a client publishes, and SIGINT ends it."""
    with broker_process() as (url, process, line):
        assert line.startswith(f"mqkit embedded broker {version()} on amqp://")
        assert "in memory" in line
        async with connected(url) as client:
            await client.declare("q")
            await client.publisher.publish("", "q", {"n": 1})
            assert (await client.take("q")).body == b'{"n":1}'
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0


async def test_a_data_directory_outlives_the_process(tmp_path: Path) -> None:
    """With --data a confirmed message is there after SIGKILL; a second broker is refused there."""
    data = ("--data", str(tmp_path))
    with broker_process(*data) as (url, process, line):
        assert "in memory" not in line
        async with connected(url) as client:
            await client.declare("q")
            await client.publisher.publish("", "q", {"n": 1}, message_id="kept")
            done = mqkit("broker", "--port", "0", *data)
            assert done.returncode == 1
            assert "another broker uses it" in done.stderr
            process.kill()
            process.wait(10)
    with broker_process(*data) as (url, process, _):
        async with connected(url) as client:
            kept = await client.take("q")
        assert (kept.properties.message_id, kept.body) == ("kept", b'{"n":1}')
        assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


async def test_its_password_is_not_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--user NAME has its password from --password-file, or else from the environment."""
    monkeypatch.setenv("MQKIT_BROKER_PASSWORD", "of the environment")
    secret = tmp_path / "secret"
    secret.write_text("of:the file\n")
    for options, password in (
        (("--user", "app", "--password-file", str(secret)), "of%3Athe%20file"),
        (("--user", "app"), "of%20the%20environment"),
        (("--user", "app:of:the line"), "of%3Athe%20line"),
    ):
        with broker_process(*options) as (url, process, line):
            assert "of" not in line.partition("amqp://")[2].partition(",")[0]
            async with connected(url.replace("guest:guest", f"app:{password}")) as client:
                await client.declare("q")
            process.send_signal(signal.SIGINT)
            out, error = process.communicate(timeout=10)
            assert (out, error) == ("", "")


def test_wrong_calls() -> None:
    """A port in use, no directory, and options that disagree are one clear error each."""
    with broker_process() as (url, _, _):
        port = url.rsplit(":", 1)[1].strip("/")
        done = mqkit("broker", "--port", port)
    assert (done.returncode, "--port names another" in done.stderr) == (1, True)
    for arguments, code, words in (
        (["broker", "--port", "0", "--data", __file__], 1, "cannot be used"),
        (["broker", "--port", "0", "--user", "nobody"], 2, "NAME:PASSWORD"),
        (["broker", "--port", "70000"], 2, "--port"),
        (["broker", "--user", "a:b", "--password-file", __file__], 2, "--user already"),
        (["broker", "--user", "a", "--password-file", "nonesuch"], 2, "cannot be read"),
        (["broker", "--user", "a", "--password-file", "/dev/null"], 2, "it takes NAME"),
        (["broker", "--user", ":secret"], 2, "it takes NAME"),
        (["broker", "--memory-limit", "much"], 2, "no size such as 2GiB"),
        (
            ["run", "tests.faults.services:slow", "--embedded", "--url", "amqp://h"],
            2,
            "two brokers",
        ),
        (
            ["run", "tests.faults.services:slow", "--port", "5673", "--url", "amqp://h"],
            2,
            "--port is the embedded broker's; give --embedded with it",
        ),
        (
            ["run", "tests.faults.services:slow", "--data", "x", "--url", "amqp://h"],
            2,
            "--embedded",
        ),
    ):
        done = mqkit(*arguments)
        assert done.returncode == code, done.stderr
        assert words in done.stderr
        assert "Traceback" not in done.stderr
        assert "secret" not in done.stderr


async def test_a_service_runs_on_a_broker_inside_its_process(tmp_path: Path) -> None:
    """`mqkit run --embedded --port` listens there, says so, and handles what comes there."""
    log, out = tmp_path / "service.log", tmp_path / "out"
    environment = {"MQKIT_TEST_QUEUE": "q", "MQKIT_TEST_OUT": str(out)}
    (port,) = free_ports(1)
    on_port = ("--embedded", "--port", str(port))
    with running("tests.faults.services:slow", "", log, *on_port, **environment) as service:
        await service.says("consuming")
        url = f"amqp://127.0.0.1:{port}/"
        assert f"embedded broker {version()} on {url}, in memory" in service.text()
        assert f"other commands reach it by --url {url}" in service.text()
        async with connected(url) as client:
            await client.publisher.publish("", "q", {"seconds": 0})
            await eventually(lambda: out.exists() and "finished" in out.read_text())
        for options in ((), ("--processes", "2"), ("--reload",)):
            done = mqkit("run", "tests.faults.services:slow", *on_port, *options)
            assert f"cannot listen on 127.0.0.1:{port}: " in done.stderr
            assert "--port names another" in done.stderr
            assert (done.returncode, "Traceback" in done.stderr) == (1, False)
        service.send(signal.SIGTERM)
        assert await service.ends() == 0
