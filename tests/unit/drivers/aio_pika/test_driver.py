"""The pure parts of the aio-pika driver, and what aiormq may do to it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any

import aiormq
import pytest
from pamqp import commands
from pamqp import frame as pamqp_frame

from mqkit import drivers
from mqkit.amqp.field_tables import UNREADABLE
from mqkit.drivers.aio_pika import convert
from mqkit.drivers.aio_pika.assembly import Assembly, Calls
from mqkit.drivers.aio_pika.channel import AioPikaChannel
from mqkit.drivers.aio_pika.connection import Alarms
from mqkit.drivers.aio_pika.transport import Stream, address, connect_error
from mqkit.drivers.base import Closed
from mqkit.drivers.common import BY_US
from mqkit.errors import (
    AuthenticationError,
    ChannelClosedError,
    ConfigurationError,
    ConnectError,
    InvalidMessageError,
    VirtualHostError,
)
from mqkit.message import Message, Properties
from mqkit.settings import BrokerUrl, Host
from tests.tables import payload, properties, short

HOST = Host("broker.example", 5672)


def frames_of(data: bytes) -> list[Any]:
    """What is in the bytes, as pamqp reads them."""
    found = []
    while data:
        size, _, frame = pamqp_frame.unmarshal(data)
        found.append(frame)
        data = data[size:]
    return found


@pytest.mark.parametrize("size", [0, 1, 92, 93, 184, 185, 1000])
def test_a_body_is_split_to_the_frame_size(size: int) -> None:
    """No frame is longer than frame_max, and together they are the body."""
    body = bytes(range(256)) * 4
    data = convert.publish(3, Message("x", "k", body[:size], Properties(message_id="m")), 100)
    method, header, *bodies = frames_of(data)
    assert isinstance(method, commands.Basic.Publish)
    assert (method.exchange, method.routing_key, method.mandatory) == ("x", "k", True)
    assert (header.body_size, header.properties.message_id) == (size, "m")
    assert b"".join(each.value for each in bodies) == body[:size]
    assert all(len(each.value) <= 92 for each in bodies)
    assert len(bodies) == -(-size // 92)


def test_headers_must_fit_one_frame() -> None:
    """A header frame over frame_max is an InvalidMessageError; without a limit it is written."""
    message = Message("", "k", b"", Properties(headers={"h": "x" * 200}))
    with pytest.raises(InvalidMessageError, match="at most"):
        convert.publish(1, message, 100)
    assert len(frames_of(convert.publish(1, message, 0))) == 2


@pytest.mark.parametrize(
    ("reason", "closed"),
    [
        (None, Closed(0, BY_US)),
        (asyncio.CancelledError(), Closed(0, BY_US)),
        (aiormq.exceptions.ConnectionClosed(), Closed(0, BY_US)),
        (aiormq.exceptions.ConnectionClosed(200, "bye"), Closed(0, "bye")),
        (aiormq.exceptions.ConnectionClosed(320, "forced"), Closed(320, "forced")),
        (aiormq.exceptions.ConnectionFrameError("bad"), Closed(501, "bad")),
        (aiormq.exceptions.ConnectionNotAllowed("no"), Closed(530, "no")),
        (ConnectionResetError(104, "whatever asyncio says"), Closed(0, "Connection reset by peer")),
        (
            aiormq.exceptions.InvalidFrameError("year 5000000 is out of range"),
            Closed(0, "aiormq cannot read what the broker sent: year 5000000 is out of range"),
        ),
    ],
)
def test_a_close_is_told_with_code_and_words(reason: BaseException | None, closed: Closed) -> None:
    """The broker's codes are found again in aiormq's exceptions; there is none for other ends."""
    assert convert.closed(reason) == closed
    assert convert.closed(reason).by_broker == (closed.code != 0)


def test_a_heartbeat_is_never_switched_off() -> None:
    """Aiormq takes 65535 for no heartbeat, and any other for what it is."""
    for seconds in (1, 10, 65534, 65535):
        url = BrokerUrl.parse(f"amqp://u:p@h/?heartbeat={seconds}")
        heartbeat = address(url, HOST).query["heartbeat"]
        assert aiormq.connection.parse_heartbeat(heartbeat) == min(seconds, 65534)


def test_credentials_reach_aiormq_as_they_are() -> None:
    """Characters that mean something in a URL mean nothing in a user name or password."""
    url = BrokerUrl.parse("amqp://u%40%3A%2F%25:p%23%3F%2F%25ä%2B@h/v")
    built = address(url, Host("::1", 1))
    assert (built.user, built.password) == ("u@:/%", "p#?/%ä+")
    assert (built.port, built.path) == (1, "/")


@pytest.mark.parametrize(
    ("code", "error", "kind", "words"),
    [
        (403, aiormq.exceptions.ProbableAuthenticationError("x"), AuthenticationError, "password"),
        (None, aiormq.exceptions.AuthenticationError("x", "y"), AuthenticationError, "password"),
        (530, aiormq.exceptions.InvalidFrameError("x"), VirtualHostError, "'v'"),
        (541, aiormq.exceptions.InvalidFrameError("x"), ConnectError, r"\(541\) 'down'"),
        (None, ConnectionRefusedError(111, "Connect call failed"), ConnectError, "refused$"),
        (None, asyncio.CancelledError(), ConnectError, "CancelledError"),
    ],
)
def test_each_refusal_has_its_error(
    code: int | None, error: BaseException, kind: type[ConnectError], words: str
) -> None:
    """The broker's code decides, where it gave one; else what failed is told."""
    refusal = None
    if code is not None:
        refusal = commands.Connection.Close(code, "down", 0, 0)
    with pytest.raises(kind, match=words) as caught:
        raise connect_error(error, refusal, BrokerUrl.parse("amqp://h/v"), HOST)
    assert type(caught.value) is kind
    assert "broker.example:5672" in str(caught.value)


async def test_an_attempt_that_aiormq_cancels_is_a_connect_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A CancelledError of the library's own making does not look like one of the caller's."""

    async def cancelled(_: object) -> bool:
        raise asyncio.CancelledError

    monkeypatch.setattr(aiormq.Connection, "connect", cancelled)
    url = BrokerUrl.parse("amqp://127.0.0.1:1/")
    with pytest.raises(ConnectError, match=r"127\.0\.0\.1:1"):
        await drivers.named("aio-pika").connect(
            url, url.hosts[0], name="test", on_blocked=lambda _: None
        )


def test_missing_places_in_aiormq_are_told() -> None:
    """An aiormq that would tell of no alarm is refused, and not used without them."""

    class Changed:
        pass

    with pytest.raises(ConfigurationError, match=r"aiormq .* lacks"):
        Alarms.of(Changed())  # type: ignore[arg-type]
    assert callable(getattr(aiormq.Connection, Alarms.BLOCKED))
    assert callable(getattr(aiormq.Connection, Alarms.UNBLOCKED))


def test_a_stream_without_words_has_no_refusal() -> None:
    """Before anything was opened there is no refusal, and the peer may be silent for a while."""
    stream = Stream(BrokerUrl.parse("amqp://h/"), HOST)
    assert stream.refusal() is None
    assert stream.monitor.left > 0
    stream.opened(lambda: None, 131_072)
    stream.abort()


def test_a_message_is_put_together() -> None:
    """Method, header and bodies in turn are a message at the last of them."""
    assembly = Assembly()
    encoded = properties(message_id=short(b"m"), delivery_mode=b"\2")
    for bodies in ([b"ab", b"cde"], [b"abcde"], []):
        whole = b"".join(bodies)
        parts = [b"method", payload(encoded, len(whole)), *bodies]
        *before, last = [assembly.add(part) for part in parts]
        assert last == (b"method", Properties(message_id="m"), whole)
        assert not any(before)


def test_nothing_is_put_together_any_more_once_it_is_broken() -> None:
    """What comes after a frame that could not be dealt with is nobody's."""
    assembly = Assembly()
    assembly.add(b"method")
    with pytest.raises(UNREADABLE):
        assembly.add(b"no header")
    assembly.is_broken = True
    assert [assembly.add(part) for part in (b"m", payload(properties()), b"")] == [None] * 3


@pytest.mark.parametrize("method", [commands.Channel.Close, commands.Connection.Close])
def test_a_text_that_is_cut_within_a_character_is_read(method: Any) -> None:
    """A broker may cut what it says at 255 bytes, anywhere; pamqp would end the connection."""
    said = "ä".encode() * 127 + b"\xc3"
    raw = method.index.to_bytes(4) + (404).to_bytes(2) + short(said) + b"\0\x28\0\x0a"
    kind, cut = convert.passed_by(1, raw)
    (frame,) = frames_of(b"\1\0\1" + len(cut).to_bytes(4) + cut + b"\xce")
    assert (kind, frame.reply_code, frame.reply_text) == (1, 404, "ä" * 127)
    assert (frame.class_id, frame.method_id) == (40, 10)


OK = commands.Queue.DeclareOk
QOS_OK = commands.Basic.QosOk


async def test_calls_are_sent_one_after_the_other() -> None:
    """The next call is sent at the answer of the one before, and gets its own answer."""
    sent: list[bytes] = []
    calls = Calls(sent.append)
    first, second = calls.send(b"1", (OK,)), calls.send(b"2", (QOS_OK,))
    assert sent == [b"1"]
    with pytest.raises(ValueError, match="answers nothing"):
        calls.answer(QOS_OK, None)
    assert calls.answer(OK, "one")
    assert sent == [b"1", b"2"]
    assert calls.answer(QOS_OK, "two")
    assert (await first, await second) == ("one", "two")
    with pytest.raises(ValueError, match="answers nothing"):
        calls.answer(OK, None)


async def test_an_answer_to_nobody_is_taken() -> None:
    """A call that was sent gets its answer though its caller went; one that was not is dropped."""
    sent: list[bytes] = []
    calls = Calls(sent.append)
    gone, unsent, last = (calls.send(data, (OK,)) for data in (b"1", b"2", b"3"))
    gone.cancel()
    unsent.cancel()
    assert not calls.answer(OK, "nobody's")
    assert sent == [b"1", b"3"]
    assert calls.answer(OK, "mine")
    assert await last == "mine"


async def test_closing_waits_for_what_is_under_way() -> None:
    """Cancels and then the close are sent after the call under way; what waits is refused."""
    sent: list[bytes] = []
    calls = Calls(sent.append)
    under_way, waits = calls.send(b"1", (OK,)), calls.send(b"2", (OK,))
    calls.finish([(b"cancel", (commands.Basic.CancelOk,))], b"close")
    assert sent == [b"1"]
    calls.answer(OK, None)
    assert sent == [b"1", b"cancel"]
    calls.answer(commands.Basic.CancelOk, None)
    assert sent == [b"1", b"cancel", b"close"]
    assert await under_way is None
    calls.fail(Closed(404, "gone"))
    with pytest.raises(ChannelClosedError, match="gone"):
        await waits


class FakeConnection:
    """Notes what a channel does with its connection."""

    frame_max = 0

    def __init__(self) -> None:
        self.done: list[object] = []

    def write(self, data: bytes) -> None:
        self.done += [type(frame) for frame in frames_of(data)]

    def keep(self, _: AioPikaChannel) -> None:
        self.done.append("keep")

    def release(self, _: AioPikaChannel) -> None:
        self.done.append("release")


async def opened_channel(connection: FakeConnection) -> AioPikaChannel:
    channel = AioPikaChannel(connection, 1)
    opening = asyncio.create_task(channel.open())
    await asyncio.sleep(0)
    await channel.frames.put((0, commands.Channel.OpenOk()))
    await opening
    connection.done.clear()
    return channel


async def test_a_number_is_kept_until_close_ok_is_written() -> None:
    """Aiormq gives the number away at the broker's close; nobody may take it before close-ok."""
    connection = FakeConnection()
    channel = await opened_channel(connection)
    await channel.frames.put((0, commands.Channel.Close(404, "gone", 0, 0)))
    assert connection.done == ["keep", commands.Channel.CloseOk, "release"]
    assert channel.closed.result() == Closed(404, "gone")


async def test_closes_that_cross_keep_the_number_until_both_are_answered() -> None:
    """Where both sides close at once, the number is free when the broker has answered too."""
    connection = FakeConnection()
    channel = await opened_channel(connection)
    closing = asyncio.create_task(channel.close())
    await asyncio.sleep(0)
    await channel.frames.put((0, commands.Channel.Close(404, "gone", 0, 0)))
    await closing
    assert channel.closed.result() == Closed(404, "gone")
    assert connection.done == [commands.Channel.Close, "keep", commands.Channel.CloseOk]
    await channel.frames.put((0, commands.Channel.CloseOk()))
    assert connection.done[-1] == "release"


async def test_a_failing_callback_closes_its_channel_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What `on_confirm` raises is logged, the channel closed, and aiormq's reader not harmed."""
    connection = FakeConnection()
    channel = await opened_channel(connection)
    selecting = asyncio.create_task(
        channel.confirm_select(lambda *_: 1 / 0, lambda _: None)  # type: ignore[arg-type]
    )
    await asyncio.sleep(0)
    await channel.frames.put((0, commands.Confirm.SelectOk()))
    await selecting
    await channel.frames.put((0, commands.Basic.Ack(1)))
    assert connection.done[-1] is commands.Channel.Close
    assert "ZeroDivisionError" in caplog.text
    await channel.frames.put((0, commands.Channel.CloseOk()))
    assert channel.closed.result() == Closed(0, "this side could not deal with a frame")


def test_drivers_are_imported_when_asked_for() -> None:
    """Neither client library comes with mqkit.drivers; a wrong name is told what there is."""
    code = (
        "import sys, mqkit.drivers as d; "
        "assert not {'pika', 'aio_pika', 'aiormq'} & set(sys.modules); "
        "assert d.named().name == 'pika' and 'aiormq' not in sys.modules; "
        "assert d.named('aio-pika').name == 'aio-pika' and 'aio_pika' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(ConfigurationError, match="there are pika and aio-pika"):
        drivers.named("kombu")
