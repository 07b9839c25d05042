"""`mqkit dead-letters`, as commands: what they print, their exit codes, and wrong calls."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from mqkit import Queue
from mqkit.errors import ChannelClosedError, TopologyError
from mqkit.message import Message, Properties
from mqkit.store import Store
from mqkit.testing.brokers.broker import Broker
from tests.forked import Command, finished
from tests.integration.dead_letters.support import SECRETS, declare, fill
from tests.support import Client, connected

pytestmark = pytest.mark.in_turn

CARD, PASSWORD, TOKEN = SECRETS
SERVICE = "tests.integration.dead_letters.services"


def dead_letters(url: str, *arguments: str, **environment: str) -> CompletedProcess[str]:
    """Run a command to its end."""
    return finished(("dead-letters", *arguments), {**os.environ, "MQKIT_URL": url, **environment})


def printed(done: CompletedProcess[str]) -> Any:
    """Return what a command has printed as JSON."""
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


class OnCall:
    """Runs commands, and keeps what they have printed."""

    def __init__(self, url: str, name: str) -> None:
        self._url, self._name = url, name
        self.printed = ""

    def run(self, command: str, *arguments: str) -> CompletedProcess[str]:
        """Run a command on the dead letters of the queue."""
        done = dead_letters(self._url, command, self._name, *arguments, TEST_NAME=self._name)
        self.printed += done.stdout + done.stderr
        return done

    def says(self, command: str, *arguments: str) -> Any:
        """Run it with --json, and return what it said."""
        return printed(self.run(command, *arguments, "--json"))


SECRET = f"card {CARD} password={PASSWORD} {TOKEN}"

OF_SERVICE = ("--service", f"{SERVICE}:service")


async def test_what_is_listed_and_shown_has_no_secret(broker: Broker, name: str) -> None:
    """Groups, messages, and all of one: each with what it is about, and masked."""
    body = json.dumps({"n": "x", "card": CARD, "password": PASSWORD, "t": TOKEN, "iban": "DE5"})
    async with connected(broker.url) as client:
        await fill(client, name, [body.encode()] * 10, SECRET)
    call = OnCall(broker.url, name)
    assert f"{name}.dead: 10 in 5 groups" in call.run("list").stdout
    groups = call.says("list")["groups"]
    assert [each["count"] for each in groups] == [2] * 5
    of_one = call.says("list", "--messages", "--group", groups[0]["group"])
    assert len(of_one["messages"]) == 2
    assert len(call.run("list", "--messages", "--limit", "3").stdout.splitlines()) == 3
    shown = call.run("show", "m-3", *OF_SERVICE).stdout
    assert "error type: ZeroDivisionError" in shown
    assert '"iban": "***"' in shown
    assert '"n": "x"' in shown
    told = call.says("show", "m-3")["messages"][0]
    assert (told["message_id"], told["handler"]) == ("m-3", "shop.take")
    assert call.run("show", "m-99").returncode == 1
    assert not [each for each in SECRETS if each in call.printed]


async def test_what_is_changed_is_in_the_audit(broker: Broker, name: str, tmp_path: Path) -> None:
    """Edit, replay, archive, restore and drop tell what they did, and the audit has all of it."""
    body = tmp_path / "body.json"
    async with connected(broker.url) as client:
        await fill(client, name, [b'{"n": "x"}'] * 10)
        call = OnCall(broker.url, name)
        edit = ("edit", "m-3", "--body", str(body), "--why", "n is a text", *OF_SERVICE)
        body.write_text('{"n": "y"}')
        refused = call.run(*edit)
        assert (refused.returncode, "valid integer" in refused.stderr) == (1, True)
        body.write_text('{"n": 3}')
        copy = call.says(*edit)["message_id"]
        rehearsed = call.says("replay", "--all", "--dry-run", *OF_SERVICE)
        assert (rehearsed["meant"], rehearsed["valid"]) == (10, 1)
        replay = ("replay", "--id", copy, "--watch", "0", "--why", "edited")
        assert call.says(*replay)["replayed"] == 1
        taken = await client.take(name)
        assert (taken.body, taken.properties.message_id) == (b'{"n": 3}', copy)

    archive = call.run("archive", "--id", "m-1", "--id", "m-2", "--why", "later")
    assert archive.stdout.startswith("archived 2 ")
    assert "archive: 3 in 3 groups" in call.run("list", "--archived").stdout
    assert call.run("restore", "--all", "--why", "now").stdout.startswith("restored 3 ")
    asked = call.run("drop", "--handler", "shop.take", "--why", "spam")
    assert (asked.returncode, "10 would be dropped" in asked.stderr) == (2, True)
    dropped = call.run("drop", "--handler", "shop.take", "--why", SECRET, "--yes")
    assert dropped.stdout.startswith("dropped 10 ")
    assert "0 in 0 groups" in call.run("list").stdout
    assert "drop began" in call.run("audit").stdout
    entries = call.says("audit")["entries"]
    ended = [each["what"] for each in entries if each["stage"] == "ended"]
    assert ended == ["edit", "replay", "archive", "restore", "drop"]
    assert [each["what"] for each in entries if each["stage"] == "failed"] == ["edit"]
    assert not [each for each in SECRETS if each in call.printed]


async def test_a_dry_run_asks_the_inbox_of_the_store(
    broker: Broker, name: str, tmp_path: Path
) -> None:
    """With a service that has a store, it says how many were handled."""
    url = f"sqlite:///{tmp_path / 'db'}"
    async with Store(url):
        pass
    async with connected(broker.url) as client:
        await fill(client, name, [b'{"n": 1}', b"no"])
    environment = {"TEST_NAME": name, "MQKIT_STORE": url}
    options = ("replay", name, "--all", "--dry-run", "--service", f"{SERVICE}:stored")
    found = printed(dead_letters(broker.url, *options, "--json", **environment))
    assert (found["meant"], found["valid"], found["handled"]) == (2, 1, 0)
    said = dead_letters(broker.url, *options, **environment).stdout
    assert "0 were handled: the inbox would skip them" in said


async def test_a_stopped_replay_is_a_failure(broker: Broker, name: str) -> None:
    """Where the handler still fails, the exit code says that it did not do what it was asked."""
    async with connected(broker.url) as client:
        await fill(client, name, [b"1"] * 30)
        async with client.channel() as channel:
            # Whatever comes to the queue is a dead letter again, as it came.
            await channel.qos(100)

            def refuse(incoming: Any) -> None:
                channel.reject(incoming.tag, requeue=False)

            await channel.consume(name, refuse, lambda: None)
            replay = ("replay", name, "--all", "--why", "a test", "--rate", "20")
            done = await asyncio.to_thread(dead_letters, broker.url, *replay)
    assert (done.returncode, "stopped: of" in done.stdout) == (1, True), done


async def test_foreign_and_hostile_messages_are_listed(broker: Broker, name: str) -> None:
    """Whatever somebody has put there: no id, no text, megabytes, escapes, forged headers."""
    hostile: dict[str, Any] = {
        "mqkit-error-type": "\x1b[2Jtype",
        "mqkit-error-message": "line\nforged 00000000 12 ok",
        "mqkit-replays": -5,
        "mqkit-history": [1, {"a": [None]}],
        "mqkit-last-failure": "0001-01-01T00:00:00+14:00",
        "x-death": "none",
        "\x1b]0;title\x07": b"\xff\xfe",
    }
    async with connected(broker.url) as client:
        await declare(client, Queue(name))
        for body, properties in (
            (b"", Properties()),
            (b"\xff\x00\x1b[2J", Properties(message_id="\x1b[2J\nid", headers=hostile)),
            (b"x" * 3_000_000, Properties(message_id="huge")),
            (b"[" * 200_000, Properties(message_id="deep", content_type="application/json")),
        ):
            await client.publisher.send(Message("", f"{name}.dead", body, properties))
    for arguments in (["list", name], ["list", name, "--messages"], ["show", name, "\x1b[2J\nid"]):
        done = dead_letters(broker.url, *arguments)
        assert done.returncode == 0, done.stderr
        assert "\x1b" not in done.stdout
        assert "\nforged" not in done.stdout
    assert (
        len(printed(dead_letters(broker.url, "list", name, "--messages", "--json"))["messages"])
        == 4
    )
    for which in ("huge", "deep"):
        assert len(dead_letters(broker.url, "show", name, which).stdout) < 30_000


def test_a_wrong_call_says_what_is_wrong(mqkit_broker: Broker) -> None:
    """In one line, with an exit code that tells a failure from a wrong call."""
    missing = dead_letters(mqkit_broker.url, "list", "no-such")
    assert (missing.returncode, missing.stdout) == (1, "")
    assert missing.stderr.startswith("mqkit: there is no queue no-such.dead on the broker")
    wrong = dead_letters(f"amqp://u:{PASSWORD}@h:x/", "list", "q")
    assert wrong.returncode == 2
    assert PASSWORD not in wrong.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    "command", [("replay", "--rate", "200"), ("archive",)], ids=lambda it: it[0]
)
async def test_a_run_that_is_stopped_leaves_no_message_twice(
    broker: Broker, name: str, command: tuple[str, ...], number: signal.Signals
) -> None:
    """It ends after the message under way, says that it was interrupted, and the audit knows."""
    total = 2_000
    target = name if command[0] == "replay" else f"{name}.dead.archive"
    async with connected(broker.url) as client:
        await fill(client, name, [b"{}"] * total)
        running = Command(
            ["dead-letters", command[0], name, *command[1:], "--all", "--why", "test"],
            {**os.environ, "MQKIT_URL": broker.url},
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
        )
        with running:
            async with asyncio.timeout(60):
                while not await there(client, target):
                    await asyncio.sleep(0.05)
            running.send_signal(number)
            _, told = await asyncio.to_thread(running.communicate, timeout=60)
        assert running.returncode == 130
        assert told.splitlines()[-1].startswith("mqkit: interrupted; the audit says")
        moved = len(await client.take_all(target))
        assert 0 < moved < total
        assert moved + len(await client.take_all(f"{name}.dead")) == total
    audit = printed(dead_letters(broker.url, "audit", name, "--json"))["entries"]
    last = audit[-1]
    assert (last["stage"], last["details"]["left"]) == ("failed", total - moved)


async def there(client: Client, queue: str) -> int:
    """Count the messages of a queue that may not be there yet."""
    try:
        return await client.messages(queue)
    except (ChannelClosedError, TopologyError):
        return 0
