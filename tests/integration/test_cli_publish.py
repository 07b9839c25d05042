"""`mqkit publish` when something is wrong: with the file, the broker, the disk, or the process."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mqkit.settings import BrokerUrl
from mqkit.testing.brokers.broker import Broker
from mqkit.testing.proxy.proxy import TcpProxy
from tests.forked import Command
from tests.integration.blocking_support import (
    QueueOnBroker,
    alarm,
    channel_of,
    eventually,
    quorum_queue,
)
from tests.users import User

pytestmark = pytest.mark.in_turn

LINES = 2000


@pytest.fixture
def queue(broker: Broker, name: str) -> Iterator[QueueOnBroker]:
    with quorum_queue(broker.url, name) as queue:
        yield queue


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "lines.jsonl"
    path.write_text("".join(f'{{"n": {number}}}\n' for number in range(LINES)))
    return path


def start(url: str, *arguments: object, **options: Any) -> subprocess.Popen[str]:
    """Start `mqkit publish`."""
    return Command(
        ["publish", *(str(each) for each in arguments)],
        env={**os.environ, "MQKIT_URL": url},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )


def publish(url: str, *arguments: object, **options: Any) -> tuple[int, dict[str, Any], str]:
    """Exit code, what --json printed (empty if nothing), and stderr."""
    with start(url, *arguments, "--json", **options) as process:
        out, errors = process.communicate(timeout=60)
    assert "Traceback" not in errors
    return process.returncode, json.loads(out) if out else {}, errors


def length(queue: QueueOnBroker) -> int:
    with channel_of(queue.url) as channel:
        return int(channel.queue_declare(queue.name, passive=True).method.message_count)


def copies(queue: QueueOnBroker) -> Counter[bytes]:
    return Counter(body for _, body in queue.take_all())


def all_lines(file: Path) -> set[bytes]:
    return set(file.read_bytes().splitlines())


def test_a_killed_run_repeats_what_was_in_flight_at_most(queue: QueueOnBroker, file: Path) -> None:
    """After SIGKILL --resume loses no line, and repeats at most --window, under the same ids."""
    window = 20
    process = start(queue.url, "", queue.name, "--file", file, "--window", window)
    with process:
        eventually(lambda: length(queue) > 300)
        process.kill()
    before = length(queue)
    assert before < LINES
    code, result, errors = publish(queue.url, "", queue.name, "--file", file, "--resume")
    assert code == 0, errors
    assert before - window <= result["skipped"] <= before
    stored = queue.take_all()
    assert {body for _, body in stored} == all_lines(file)
    assert LINES <= len(stored) <= LINES + window
    assert len({message_id for message_id, _ in stored}) == LINES


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_for_what_is_on_its_way(
    queue: QueueOnBroker, file: Path, number: signal.Signals
) -> None:
    """SIGINT and SIGTERM end the run with all that was sent noted: --resume repeats nothing."""
    with start(queue.url, "", queue.name, "--file", file, "--window", 20) as process:
        eventually(lambda: length(queue) > 300)
        process.send_signal(number)
        out, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "--resume" in errors
    assert f"{length(queue):,} confirmed" in out
    code, _, errors = publish(queue.url, "", queue.name, "--file", file, "--resume")
    assert code == 0, errors
    assert copies(queue) == dict.fromkeys(all_lines(file), 1)


def test_a_second_signal_does_not_wait(queue: QueueOnBroker, file: Path) -> None:
    """While no confirm comes, one signal waits some seconds, and a second one ends the run."""
    with (
        TcpProxy(queue.url) as proxy,
        start(proxy.url, "", queue.name, "--file", file, "--window", 20, "--json") as process,
    ):
        eventually(lambda: length(queue) > 300)
        proxy.stall("to_client")
        # What is published from here on is on its way, and stays so.
        published = proxy.relayed("to_broker")
        eventually(lambda: proxy.relayed("to_broker") > published)
        process.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1)
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=2.5)
    assert process.returncode == 130
    assert 0 < json.loads(out)["unknown"] <= 20
    assert "Traceback" not in errors


def test_a_signal_while_connecting(file: Path) -> None:
    """A run that has no connection yet ends at once, with nothing sent."""
    with start("amqp://guest:guest@127.0.0.1:1/", "", "q", "--file", file, "--json") as process:
        assert process.stderr is not None
        assert "trying again" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=4)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert json.loads(out)["confirmed"] == 0


def test_a_broker_that_falls_silent_stops_the_run(queue: QueueOnBroker, file: Path) -> None:
    """Not every line waits for its timeout in turn: the first stops the run, to be resumed."""
    arguments = ("", queue.name, "--file", file, "--window", 20, "--timeout", 1)
    with TcpProxy(queue.url) as proxy, start(proxy.url, *arguments, "--json") as process:
        eventually(lambda: length(queue) > 300)
        proxy.stall()
        out, errors = process.communicate(timeout=30)
    result = json.loads(out)
    assert process.returncode == 1, errors
    assert "no confirm within 1 s" in result["stopped_by"]
    assert result["lines"] < LINES
    assert len(result["failed"]) + result["unknown"] <= 2 * 20
    code, _, errors = publish(queue.url, *arguments, "--resume")
    assert code == 0, errors
    assert set(copies(queue)) == all_lines(file)


def test_an_alarm_stops_the_run(broker: Broker, queue: QueueOnBroker, file: Path) -> None:
    """During an alarm nothing is written, the run says why it stopped, and can be resumed."""
    arguments = ("", queue.name, "--file", file)
    with alarm(broker):
        code, result, _ = publish(queue.url, *arguments, "--timeout", 1)
    assert (code, result["confirmed"]) == (1, 0)
    assert "memory" in result["stopped_by"]
    assert publish(queue.url, *arguments)[0] == 0
    assert copies(queue) == dict.fromkeys(all_lines(file), 1)


def test_connections_closed_meanwhile(broker: Broker, queue: QueueOnBroker, file: Path) -> None:
    """A run whose connection is closed by the broker goes on, and every line is stored."""
    with start(queue.url, "", queue.name, "--file", file, "--window", 20) as process:
        eventually(lambda: length(queue) > 100)
        broker.close_connections()
        out, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert f"{LINES:,} confirmed" in out
    assert set(copies(queue)) == all_lines(file)


def test_lines_appended_and_lines_changed(queue: QueueOnBroker, tmp_path: Path) -> None:
    """--resume sends what was appended, and what was changed as a new message, and says so."""
    file = tmp_path / "f.jsonl"
    file.write_text("1\n2\n3\n")
    assert publish(queue.url, "", queue.name, "--file", file)[0] == 0
    file.write_text("1\n20\n3\n4\n")
    code, result, _ = publish(queue.url, "", queue.name, "--file", file, "--resume")
    assert (code, result["confirmed"], result["skipped"], result["changed"]) == (0, 2, 2, 1)
    stored = queue.take_all()
    assert Counter(body for _, body in stored) == dict.fromkeys([b"1", b"2", b"3", b"20", b"4"], 1)
    assert len({message_id for message_id, _ in stored}) == 5


def test_anew_sends_all_again_as_new_messages(queue: QueueOnBroker, tmp_path: Path) -> None:
    """--anew sends every line a second time, and no consumer takes it for one that it had."""
    file = tmp_path / "f.jsonl"
    file.write_text("1\n2\n")
    assert publish(queue.url, "", queue.name, "--file", file)[0] == 0
    assert publish(queue.url, "", queue.name, "--file", file, "--anew")[0] == 0
    assert list(queue.ids().values()) == [1, 1, 1, 1]


def test_a_delay_holds_the_messages(queue: QueueOnBroker, tmp_path: Path) -> None:
    """With --delay the broker confirms what it holds, and the queue has it when its time comes."""
    file = tmp_path / "f.jsonl"
    file.write_text("1\n2\n")
    code, result, _ = publish(queue.url, "", queue.name, "--file", file, "--delay", "3")
    assert (code, result["confirmed"]) == (0, 2)
    assert length(queue) == 0
    eventually(lambda: length(queue) == 2)
    assert copies(queue) == {b"1": 1, b"2": 1}


def test_what_messages_have_besides_their_bodies(queue: QueueOnBroker, tmp_path: Path) -> None:
    """Headers and properties are on each message; a line without an id of its own fails."""
    file = tmp_path / "lines.jsonl"
    file.write_text('{"id": "a"}\n{"id": 2}\n{}\n{"id": "2"}\n')
    options = ("--header", "source=import", "--expiration", 60, "--priority", 3, "--type", "t")
    arguments = ("", queue.name, "--file", file, "--id", "id", *options)
    for resume in ((), ("--resume",)):
        code, result, errors = publish(queue.url, *arguments, *resume)
        assert code == 1, errors
        assert {each["line"] for each in result["failed"]} == {3, 4}
    with channel_of(queue.url) as channel:
        for message_id in ("a", "2"):
            method, properties, _ = channel.basic_get(queue.name, auto_ack=True)
            assert method is not None
            assert properties.message_id == message_id
            assert properties.headers["source"] == "import"
            assert (properties.expiration, properties.type) == ("60000", "t")
            assert properties.priority == 3
        assert channel.basic_get(queue.name)[0] is None


def test_two_files_with_a_line_in_common(queue: QueueOnBroker, tmp_path: Path) -> None:
    """Their first lines are two messages: a handler with a store has an effect for each."""
    monday, tuesday = tmp_path / "monday.jsonl", tmp_path / "tuesday.jsonl"
    for file in (monday, tuesday):
        file.write_text('{"pay": 5}\n')
        assert publish(queue.url, "", queue.name, "--file", file)[1]["confirmed"] == 1
    assert list(queue.ids().values()) == [1, 1]


def test_a_file_that_moved_with_its_journal(queue: QueueOnBroker, tmp_path: Path) -> None:
    """A resumed run in another place sends what is left, under the ids that it had."""
    file = tmp_path / "f.jsonl"
    file.write_text("1\n2\n")
    journal = tmp_path / "f.jsonl.published.jsonl"
    assert publish(queue.url, "", queue.name, "--file", file)[0] == 0
    # As if the process had been killed before it could note the second confirm.
    journal.write_text("".join(journal.read_text().splitlines(keepends=True)[:2]))
    there = tmp_path / "there"
    there.mkdir()
    file, journal = file.rename(there / "g.jsonl"), journal.rename(there / "g.published")
    arguments = ("", queue.name, "--file", file, "--journal", journal, "--resume")
    code, result, errors = publish(queue.url, *arguments)
    assert (code, result["skipped"], result["confirmed"]) == (0, 1, 1), errors
    assert sorted(queue.ids().values()) == [1, 2]


def test_an_unroutable_key(broker: Broker, name: str, tmp_path: Path) -> None:
    """Lines that no queue takes are listed with the reason, on the screen as one group."""
    file = tmp_path / "f.jsonl"
    file.write_text("1\n2\n3\n")
    with start(broker.url, "", f"{name}.none", "--file", file) as process:
        out, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "3 failed" in out
    assert "3 lines, 1 to 3: the broker returned it (312 NO_ROUTE)" in errors
    # None was confirmed, so that neither --resume nor --anew is needed.
    code, result, _ = publish(broker.url, "", f"{name}.none", "--file", file)
    assert (code, [item["line"] for item in result["failed"]]) == (1, [1, 2, 3])


def test_an_exchange_that_this_user_may_not_write_to(broker: Broker, name: str, file: Path) -> None:
    """A refused permission stops the run at once, in the broker's words."""
    with channel_of(broker.url) as channel:
        channel.exchange_declare(name, "fanout")
    user = User(broker, name)
    user.add("pw")
    try:
        user.permit(".*", "^other$", ".*")
        url = f"amqp://{name}:pw@{BrokerUrl.parse(broker.url).hosts[0]}/"
        code, result, _ = publish(url, name, "key", "--file", file, "--window", 5)
    finally:
        user.delete()
        with channel_of(broker.url) as channel:
            channel.exchange_delete(name)
    assert code == 1
    assert "ACCESS_REFUSED" in result["stopped_by"]
    assert result["confirmed"] == 0
    assert len(result["failed"]) <= 10


def test_a_full_disk_stops_the_run(queue: QueueOnBroker, file: Path) -> None:
    """When the journal cannot be written the run stops, and says how many lines it lacks."""
    arguments = ("", queue.name, "--file", file, "--window", 20)

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))

    code, result, _ = publish(queue.url, *arguments, preexec_fn=limited)
    assert code == 1
    assert "cannot be written: File too large" in result["stopped_by"]
    assert result["unnoted"] <= 40
    assert length(queue) == result["confirmed"]
    code, again, errors = publish(queue.url, *arguments, "--resume")
    assert code == 0, errors
    assert again["skipped"] == result["confirmed"] - result["unnoted"]
    assert set(copies(queue)) == all_lines(file)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["x" * 256, "key"], "EXCHANGE is over 255 bytes"),
        (["", "k" * 256], "KEY is over 255 bytes"),
        (["", "key", "--resume", "--anew"], "--resume and --anew exclude each other"),
        (["", "key", "--window", "0"], "--window"),
        (["", "key", "--timeout", "0"], "--timeout"),
        (["", "key", "--timeout", "nan"], "--timeout"),
        (["", "key", "--timeout", "inf"], "--timeout"),
        (["", "key", "--window", "-1"], "--window"),
        (["", "key", "--window", "1.5"], "--window"),
        (["", "key", "--timeout", "5s"], "--timeout"),
        (["", "key", "--delay", "-1"], "--delay"),
        (["", "key", "--delay", "nan"], "--delay"),
        (["", "key", "--delay", "26843546"], "--delay"),
        (["", "key", "--journal", "/nowhere/j"], "No such file"),
        (["", "key", "--journal", "{file}"], "the file that is to be published"),
        (["", "key", "--resum"], "--resum"),
        (["", "key", "--header", "novalue"], "--header is NAME=VALUE"),
        (["", "key", "--priority", "256"], "priority is 0 to 255"),
        (["", "key", "--expiration", "nan"], "expiration is seconds"),
        (["", "key", "--id", ""], "--id is the name of a field"),
        (["", "key", "third"], "third"),
        ([""], "KEY"),
    ],
)
def test_a_wrong_call(file: Path, arguments: list[str], words: str) -> None:
    """Each mistake in a call exits with 2, names what is wrong, and sends nothing."""
    given = [file if argument == "{file}" else argument for argument in arguments]
    code, result, errors = publish("amqp://guest:guest@127.0.0.1:1/", *given, "--file", file)
    assert (code, result) == (2, {})
    assert words in " ".join(errors.replace("│", " ").split())


def test_a_pipe_is_refused(tmp_path: Path) -> None:
    """A pipe, which could not be resumed, is refused instead of waited for."""
    os.mkfifo(tmp_path / "pipe")
    code, _, errors = publish("amqp://guest:guest@h/", "", "k", "--file", tmp_path / "pipe")
    assert code == 2
    assert "not a regular file" in errors


def test_a_missing_broker(file: Path) -> None:
    """Where no broker answers, the run fails with the reason and without the password."""
    code, _, errors = publish("amqp://guest:s3cret@no.such.host.invalid/", "", "k", "--file", file)
    assert code == 1
    assert "no.such.host.invalid" in errors
    assert "s3cret" not in errors
