"""Direct reply-to (https://www.rabbitmq.com/docs/direct-reply-to)."""

from __future__ import annotations

from tests.conformance.suite.channel import WireChannel
from tests.conformance.suite.consumer import Consumer
from tests.conformance.suite.env import BytesEnv, Env, expect_closed
from tests.conformance.suite.features import Feature
from tests.conformance.suite.suite import case

REPLY_TO = "amq.rabbitmq.reply-to"


async def ask(env: Env, channel: WireChannel) -> tuple[Consumer, str]:
    """Ask somebody from this channel; returns what gets the answers, and where they must go."""
    replies = await channel.consume(REPLY_TO, no_ack=True)
    queue = await env.queue(channel)
    await channel.publish_confirmed("", queue, b"ask", reply_to=REPLY_TO)
    (question,) = await channel.drain(queue)
    assert question.properties.reply_to is not None
    return replies, question.properties.reply_to


@case("replies")
async def answers_come_to_the_asking_channel(env: Env) -> None:
    """An answer to the `reply_to` of a message comes to the channel that published it."""
    channel, answering = await env.channel(), await env.channel()
    replies, reply_to = await ask(env, channel)
    assert reply_to.startswith(REPLY_TO + ".")
    for body in (b"1", b"2"):
        await answering.publish("", reply_to, body, correlation_id="c-1")
        answer = await replies.next()
        assert answer.body == body
        assert (answer.exchange, answer.routing_key) == ("", reply_to)
        assert answer.properties.correlation_id == "c-1"


@case("replies")
async def answers_need_no_ack(env: Env) -> None:
    """Consuming answers with acknowledgements is refused with 406."""
    channel = await env.channel()
    async with expect_closed(channel, 406, "reply consumer cannot acknowledge"):
        await channel.consume(REPLY_TO)


@case("replies")
async def one_consumer_of_answers(env: Env) -> None:
    """A second consumer of answers on one channel is refused with 406."""
    channel = await env.channel()
    await channel.consume(REPLY_TO, no_ack=True)
    async with expect_closed(channel, 406, "reply consumer already set"):
        await channel.consume(REPLY_TO, no_ack=True)


@case("replies")
async def asking_without_a_consumer(env: Env) -> None:
    """Publishing with that `reply_to` on a channel that consumes no answers closes it with 406."""
    channel = await env.channel()
    async with expect_closed(channel, 406, "fast reply consumer does not exist"):
        await channel.publish("amq.direct", "key", reply_to=REPLY_TO)


@case("replies")
async def consumer_of_answers_may_be_cancelled(env: Env) -> None:
    """A cancelled consumer of answers gets none, and the channel may start another one."""
    channel = await env.channel()
    replies, reply_to = await ask(env, channel)
    await replies.cancel()
    await channel.publish_confirmed("", reply_to, b"late", mandatory=True)
    again, reply_to = await ask(env, channel)
    await channel.publish_confirmed("", reply_to, b"m")
    assert (await again.next()).body == b"m"
    assert replies.deliveries.empty()


@case("replies", needs={Feature.ROUTED_REPLIES})
async def answers_to_nobody(env: Env) -> None:
    """An answer to a channel that has closed is dropped and acked; it is returned to nobody."""
    channel, answering = await env.channel(), await env.channel()
    _, reply_to = await ask(env, channel)
    await channel.close()
    assert await answering.publish_confirmed("", reply_to, mandatory=True) == "ack"
    assert answering.returns == []


@case("replies", needs={Feature.ROUTED_REPLIES})
async def mandatory_answers(env: Env) -> None:
    """A mandatory answer to somebody who waits for it is not returned."""
    channel, answering = await env.channel(), await env.channel()
    replies, reply_to = await ask(env, channel)
    await answering.publish_confirmed("", reply_to, b"m", mandatory=True)
    assert (await replies.next()).body == b"m"
    assert answering.returns == []


@case("replies", about="bytes")
async def asking_whether_somebody_waits(env: BytesEnv) -> None:
    """Declaring an answer's address passively tells whether somebody waits there: else a 404.

    The address has letters that not every client library takes.
    """
    channel, answering = await env.channel(), await env.channel()
    _, reply_to = await ask(env, channel)
    assert (await answering.queue_declare(reply_to, passive=True)).name == reply_to
    await channel.close()
    async with expect_closed(answering, 404):
        await answering.queue_declare(reply_to, passive=True)


@case("replies")
async def to_a_made_up_address(env: Env) -> None:
    """A mandatory answer to an address that the broker did not give is returned."""
    channel = await env.channel()
    await channel.publish_confirmed("", f"{REPLY_TO}.{env.name}", mandatory=True)
    assert [returned.code for returned in channel.returns] == [312]
