"""Which of many messages is written when. What a broker makes of them: the integration tests."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from mqkit.drivers.base import Acked, Closed, Gone, Verdict
from mqkit.message import Message, Properties
from mqkit.publishing.outgoing import Outgoing
from mqkit.publishing.pipeline import PublishPipeline
from mqkit.publishing.sender import Sender, Unconfirmed
from mqkit.publishing.window import Waiter


class Channel:
    """Stands for the sender: it notes what is written, and is open or not."""

    def __init__(self) -> None:
        self.is_open = True
        self.written: list[str | None] = []
        self.verdicts: list[Waiter[Verdict | Unconfirmed]] = []
        self.reopened = asyncio.Event()

    def write(self, message: Message, _: float, waiter: Waiter[Verdict | Unconfirmed]) -> bool:
        if not self.is_open:
            return False
        self.written.append(message.properties.message_id)
        self.verdicts.append(waiter)
        return True

    def release(self) -> None:
        pass

    async def send(self, message: Message, *_: Any) -> None:
        await self.reopened.wait()
        self.written.append(message.properties.message_id)

    async def resend(self, message: Message, *_: Any) -> None:
        await self.send(message)


def to_message(outgoing: Outgoing) -> Message:
    return Message("", "q", b"", Properties(message_id=outgoing.message_id))


async def test_what_was_lost_is_written_again_before_what_comes_later() -> None:
    """Also where the channel closes and a later one begins before the lost ones are told."""
    channel = Channel()
    many = PublishPipeline(cast(Sender, channel), lambda _: None, 30)

    def begin(number: int) -> None:
        many.begin(Outgoing("", "q", b"", message_id=str(number)), to_message)

    for number in range(4):
        begin(number)
    assert channel.written == ["0", "1", "2", "3"]
    channel.verdicts[0].set_result(Acked())
    channel.is_open = False
    assert (await many.next()).index == 0
    for number in range(4, 7):
        begin(number)
    for verdict in channel.verdicts[1:]:
        verdict.set_result(Gone(Closed(320, "CONNECTION_FORCED")))
    await asyncio.sleep(0)
    begin(7)
    # Other tasks have their turns meanwhile, and those that wait are in their order then.
    for _ in range(5):
        await asyncio.sleep(0)
    channel.is_open = True
    channel.reopened.set()
    begin(8)
    while len(channel.written) < 12:
        await asyncio.sleep(0)
        for verdict in channel.verdicts:
            if not verdict.done():
                verdict.set_result(Acked())
    assert channel.written == ["0", "1", "2", "3", *map(str, range(1, 9))]
    indices = [(await many.next()).index for _ in range(8)]
    assert sorted(indices) == list(range(1, 9))
    assert len(many) == 0


async def test_what_is_held_goes_to_its_end_without_others() -> None:
    """The last message of an input is held and then written like any other."""
    channel = Channel()
    many = PublishPipeline(cast(Sender, channel), lambda _: None, 30)
    channel.is_open = False
    for number in range(3):
        many.begin(Outgoing("", "q", b"", message_id=str(number)), to_message)
    await asyncio.sleep(0)
    channel.is_open = True
    channel.reopened.set()
    for _ in range(5):
        await asyncio.sleep(0)
    assert channel.written == ["0", "1", "2"]
    for verdict in channel.verdicts:
        verdict.set_result(Acked())
    assert [(await many.next()).index for _ in range(3)] == [0, 1, 2]


async def test_a_defect_while_a_verdict_is_judged_is_raised() -> None:
    """It reaches whoever waits for results, and neither the connection nor nobody."""
    channel = Channel()
    many = PublishPipeline(cast(Sender, channel), lambda _: 1 / 0, 30)  # type: ignore[arg-type]
    many.begin(Outgoing("", "q", b""), to_message)
    channel.verdicts[0].set_result(Acked())
    with pytest.raises(ZeroDivisionError):
        await many.next()


async def test_a_message_that_is_ready_has_the_index_that_it_was_given() -> None:
    """Who makes the messages himself counts those, too, that never come here."""
    channel = Channel()
    many = PublishPipeline(cast(Sender, channel), lambda _: None, 30)
    for index in (3, 7):
        many.begin_message(index, to_message(Outgoing("", "q", b"", message_id=str(index))))
    for verdict in channel.verdicts:
        verdict.set_result(Acked())
    assert [((await many.next()).index, len(many)) for _ in range(2)] == [(3, 1), (7, 0)]
