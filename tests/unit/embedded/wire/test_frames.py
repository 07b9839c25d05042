"""A byte stream is cut into the same frames however it comes, and none is over frame_max."""

from __future__ import annotations

import itertools
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import body, commands, header
from pamqp.heartbeat import Heartbeat

from mqkit.embedded.errors import ReplyError
from mqkit.embedded.wire import frames
from mqkit.embedded.wire.frames import FRAME_OVERHEAD, FrameReader, ReceivedHeader
from tests.unit.embedded.support import marshal, publish

STREAM = b"".join(
    [
        marshal(commands.Channel.Open(), 1),
        publish("amq.topic", "a.b", b"x" * 300, headers={"a": 1}, delivery_mode=2),
        marshal(Heartbeat()),
        publish("", "q", b""),
        marshal(commands.Basic.Ack(7, multiple=True), 9),
        marshal(commands.Channel.Close(200, "bye", 0, 0), 1),
    ]
)


def said(number: int, frame: frames.Frame) -> tuple[Any, ...]:
    """What can be compared of a frame."""
    if isinstance(frame, body.ContentBody):
        return number, "body", frame.value
    if isinstance(frame, ReceivedHeader):
        return number, "header", frame.body_size, frame.raw
    if isinstance(frame, frames.Method):
        return number, frame.name, dict(frame)
    return number, "heartbeat"


def read(*pieces: bytes, frame_max: int = 131072) -> list[tuple[Any, ...]]:
    """The frames of a stream that comes in pieces."""
    reader = FrameReader(frame_max)
    found = []
    for piece in pieces:
        reader.feed(piece)
        found += [said(*each) for each in reader]
    return found


@given(st.lists(st.integers(0, len(STREAM)), max_size=40))
def test_any_split_gives_the_same_frames(cuts: list[int]) -> None:
    """Wherever the network cuts the stream, the frames are those of the whole."""
    at = [0, *sorted(cuts), len(STREAM)]
    pieces = [STREAM[start:end] for start, end in itertools.pairwise(at)]
    assert read(*pieces) == read(STREAM)


def test_octet_by_octet() -> None:
    """One octet at a time gives the same nine frames."""
    whole = read(STREAM)
    assert len(whole) == 9
    assert read(*(STREAM[at : at + 1] for at in range(len(STREAM)))) == whole


def test_a_frame_that_is_incomplete_is_not_copied() -> None:
    """Looking whether 128 KiB have come whole takes no memory, however many pieces they are in."""
    frame = marshal(body.ContentBody(b"x" * 131_000), 1)
    reader = FrameReader(2**20)
    reader.feed(frame[:-1])
    tracemalloc.start()
    try:
        assert list(reader) == []
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10_000
    reader.feed(frame[-1:])
    assert len(list(reader)) == 1


def test_reading_may_stop_and_go_on() -> None:
    """What follows the frame at which reading stopped comes when it goes on, all of it."""
    reader = FrameReader(131072)
    reader.feed(STREAM)
    found = []
    for number, frame in reader:
        found.append(said(number, frame))
        if len(found) == 4:
            break
    again = [said(*each) for each in reader]
    assert found + again == read(STREAM)


@pytest.mark.parametrize("frame_max", [8192, 131072])
def test_a_payload_of_frame_max_is_taken_and_one_octet_more_is_not(frame_max: int) -> None:
    """A frame may be larger than frame_max by what is around its payload, as with RabbitMQ."""
    largest = marshal(body.ContentBody(b"x" * frame_max), 1)
    assert len(largest) == frame_max + FRAME_OVERHEAD
    assert len(read(largest, frame_max=frame_max)) == 1
    larger = marshal(body.ContentBody(b"x" * (frame_max + 1)), 1)
    with pytest.raises(ReplyError, match="over frame_max"):
        read(larger[:7], frame_max=frame_max)


@given(st.integers(0, 40_000), st.sampled_from((0, 8192, 8193, 16384)))
def test_content_is_cut_at_frame_max(size: int, frame_max: int) -> None:
    """A body goes out in the fewest frames that fit, none larger than frame_max."""
    payload = bytes(at % 251 for at in range(size))
    head = header.ContentHeader(0, size, commands.Basic.Properties()).marshal()
    data = frames.content(3, head, payload, frame_max)
    found = read(data, frame_max=frame_max)
    assert found[0] == (3, "header", size, head)
    assert b"".join(each[2] for each in found[1:]) == payload
    room = frame_max - FRAME_OVERHEAD if frame_max else max(size, 1)
    assert len(found) - 1 == -(-size // room)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x04", 501),
        (b"\x01\x00\x01\x00\x00\x00\x04\x00\x0a\x00\x0b\x00", 501),
        (b"\x08\x00\x01\x00\x00\x00\x00\xce", 505),
        (b"\x01\x00\x01\x00\x00\x00\x04\x00\xff\x00\xff\xce", 503),
        (b"\x01\x00\x01\x00\x00\x00\x02\x00\x0a\xce", 503),
        (b"\x01\x00\x01\x00\x00\x00\x05\x00\x3c\x00\x28\x00\xce", 501),
        (b"\x02\x00\x01\x00\x00\x00\x03\x00\x3c\x00\xce", 501),
        (b"\x02\x00\x01\x00\x00\x00\x10\x00\x3c\x00\x00" + bytes(8) + b"\x00\x01\x00\x00\xce", 541),
    ],
)
def test_what_is_no_frame_has_a_reply_code(data: bytes, code: int) -> None:
    """End octet, type, cut method: 501; heartbeat on a channel: 505; unknown: 503; header: 541."""
    with pytest.raises(ReplyError) as caught:
        read(data)
    assert caught.value.code == code


@given(st.lists(st.integers(0, 60), max_size=5))
def test_after_a_broken_frame_the_answer_is_found(cuts: list[int]) -> None:
    """Of what follows a frame without its end, connection.close-ok is found, and nothing else."""
    stream = marshal(commands.Basic.Ack(1), 1)[:-1] + b"?" + marshal(commands.Basic.Ack(2), 1)
    stream += marshal(commands.Connection.CloseOk())
    reader, found, errors = FrameReader(131072), [], 0
    at = [0, *sorted(cuts), len(stream)]
    for start, end in itertools.pairwise(at):
        reader.feed(stream[start:end])
        try:
            found += [said(*each) for each in reader]
        except ReplyError as error:
            errors += error.code
    found += [said(*each) for each in reader]
    assert errors == 501
    assert [each[1] for each in found] == ["Connection.CloseOk"]


def test_frames_before_a_broken_one_are_read() -> None:
    """What came whole before the error has been given out."""
    reader = FrameReader(131072)
    reader.feed(marshal(commands.Channel.Open(), 1) + b"\xff")
    reading = iter(reader)
    assert said(*next(reading))[1] == "Channel.Open"
    with pytest.raises(ReplyError):
        next(reading)
