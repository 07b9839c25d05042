"""Transactions (AMQP 0-9-1, section 1.9; RabbitMQ guide "Broker Semantics")."""

from __future__ import annotations

from pamqp import commands

from tests.conformance.suite.channel import WireChannel
from tests.conformance.suite.env import QUEUE_TYPES, BytesEnv, Env, expect_closed
from tests.conformance.suite.features import Feature
from tests.conformance.suite.peer import message_bytes
from tests.conformance.suite.suite import case
from tests.conformance.suite.values import Delivery


async def held(env: Env, type_: str, bodies: int) -> tuple[WireChannel, str, list[Delivery]]:
    """Open a transactional channel that holds so many deliveries of a new queue."""
    channel, other = await env.channel(), await env.channel()
    queue = await env.queue(other, x_queue_type=type_)
    await other.publish_all("", queue, [b"%d" % number for number in range(bodies)])
    await channel.tx_select()
    deliveries = [await channel.get(queue) for _ in range(bodies)]
    return channel, queue, [each for each in deliveries if each is not None]


@case("transactions")
async def commit_publishes(env: Env) -> None:
    """What is published in a transaction reaches its queue when that is committed, not before."""
    channel, other = await env.channel(), await env.channel()
    queue = await env.queue(other)
    await channel.tx_select()
    await channel.publish("", queue, b"m")
    await channel.round_trip()
    assert await other.bodies(queue) == []
    await channel.tx_commit()
    assert await other.bodies(queue) == [b"m"]


@case("transactions")
async def rollback_publishes_nothing(env: Env) -> None:
    """What is published in a transaction that is rolled back reaches no queue."""
    channel = await env.channel()
    queue = await env.queue(channel)
    await channel.tx_select()
    await channel.publish("", queue, b"m")
    await channel.tx_rollback()
    await channel.tx_commit()
    assert await channel.bodies(queue) == []


@case("transactions")
async def rollback_takes_acks_back(env: Env) -> None:
    """What is acked in a transaction that is rolled back may be acked again."""
    channel = await env.channel()
    queue = await env.queue(channel)
    await channel.publish("", queue, b"m")
    await channel.tx_select()
    delivery = await channel.get(queue)
    assert delivery is not None
    await channel.ack(delivery.tag)
    await channel.tx_rollback()
    await channel.ack(delivery.tag)
    await channel.tx_commit()
    await channel.close()
    assert (await (await env.channel()).queue_declare(queue, passive=True)).messages == 0


@case("transactions")
async def commit_without_select(env: Env) -> None:
    """Committing or rolling back on a channel that is not transactional closes it with 406."""
    for act in ("tx_commit", "tx_rollback"):
        channel = await env.channel()
        async with expect_closed(channel, 406, "channel is not transactional"):
            await getattr(channel, act)()


@case("transactions")
async def transactions_or_confirms(env: Env) -> None:
    """A channel is transactional or it confirms: asking for the other closes it with 406."""
    channel = await env.channel()
    await channel.tx_select()
    async with expect_closed(channel, 406, "cannot switch from tx to confirm mode"):
        await channel.confirm_select()
    channel = await env.channel()
    await channel.confirm_select()
    async with expect_closed(channel, 406, "cannot switch from confirm to tx mode"):
        await channel.tx_select()


@case("transactions")
async def selecting_twice(env: Env) -> None:
    """Selecting a second time changes nothing: what was published waits for its commit."""
    channel = await env.channel()
    queue = await env.queue(channel)
    await channel.tx_select()
    await channel.publish("", queue, b"m")
    await channel.tx_select()
    assert await channel.bodies(queue) == []
    await channel.tx_commit()
    assert await channel.bodies(queue) == [b"m"]


@case("transactions")
async def commit_of_nothing(env: Env) -> None:
    """A commit or rollback of nothing is answered, and so is the next one."""
    channel = await env.channel()
    await channel.tx_select()
    for _ in range(2):
        await channel.tx_commit()
        await channel.tx_rollback()


@case("transactions")
async def commit_keeps_order(env: Env) -> None:
    """A commit publishes in the order of publishing, to both kinds of queue."""
    for type_ in QUEUE_TYPES:
        channel = await env.channel()
        queue = await env.queue(channel, x_queue_type=type_)
        await channel.tx_select()
        for body in (b"1", b"2", b"3"):
            await channel.publish("", queue, body)
        await channel.tx_commit()
        assert await channel.bodies(queue) == [b"1", b"2", b"3"]


@case("transactions")
async def closing_is_rolling_back(env: Env) -> None:
    """A channel that is closed publishes nothing more, and gives back what it acked."""
    for type_ in QUEUE_TYPES:
        channel, queue, (delivery,) = await held(env, type_, 1)
        await channel.publish("", queue, b"new")
        await channel.ack(delivery.tag)
        await channel.round_trip()
        await channel.close()
        other = await env.channel()
        again = await env.arrives(other, queue)
        assert (again.body, again.redelivered) == (b"0", True)
        assert await other.bodies(queue) == []


@case("transactions")
async def error_is_rolling_back(env: Env) -> None:
    """A channel that an error closes publishes nothing more, and gives back what it acked."""
    for type_ in QUEUE_TYPES:
        channel, queue, (delivery,) = await held(env, type_, 1)
        await channel.publish("", queue, b"new")
        await channel.ack(delivery.tag)
        async with expect_closed(channel, 404):
            await channel.publish(env.new_name("x"), "")
        other = await env.channel()
        again = await env.arrives(other, queue)
        assert (again.body, again.redelivered) == (b"0", True)
        assert await other.bodies(queue) == []


@case("transactions")
async def errors_of_publishes_come_at_once(env: Env) -> None:
    """What is wrong with a publish is told as it is published, not at the commit."""
    channel = await env.channel()
    await channel.tx_select()
    async with expect_closed(channel, 404, "no exchange"):
        await channel.publish(env.new_name("x"), "")
    channel = await env.channel()
    await channel.tx_select()
    async with expect_closed(channel, 406, "invalid expiration"):
        await channel.publish("", env.name, expiration="soon")


@case("transactions")
async def errors_of_acks_come_at_once(env: Env) -> None:
    """A tag that is none, or was settled in this transaction already, closes the channel: 406."""
    channel = await env.channel()
    await channel.tx_select()
    async with expect_closed(channel, 406, "unknown delivery tag 9"):
        await channel.ack(9)
    channel, _, (delivery,) = await held(env, "classic", 1)
    await channel.ack(delivery.tag)
    async with expect_closed(channel, 406, "unknown delivery tag 1"):
        await channel.ack(delivery.tag)


@case("transactions")
async def returns_come_with_the_commit(env: Env) -> None:
    """A mandatory message that goes nowhere is returned at the commit, before its answer."""
    channel = await env.channel()
    await channel.tx_select()
    await channel.publish("", env.new_name(), b"m", mandatory=True)
    await channel.round_trip()
    assert channel.returns == []
    await channel.tx_commit()
    (returned,) = channel.returns
    assert (returned.code, returned.body) == (312, b"m")


@case("transactions")
async def rollback_returns_nothing(env: Env) -> None:
    """A mandatory message that is rolled back is not returned."""
    channel = await env.channel()
    await channel.tx_select()
    await channel.publish("", env.new_name(), b"m", mandatory=True)
    await channel.tx_rollback()
    await channel.tx_commit()
    assert channel.returns == []


@case("transactions", needs={Feature.ROUTED_WHEN_PUBLISHED})
async def routed_when_published(env: Env) -> None:
    """Where a message goes is found as it is published: a queue declared later does not get it."""
    channel, other = await env.channel(), await env.channel()
    queue = env.new_name()
    await channel.tx_select()
    await channel.publish("", queue, b"m", mandatory=True)
    await channel.round_trip()
    await other.queue_declare(queue)
    await channel.tx_commit()
    assert [returned.body for returned in channel.returns] == [b"m"]
    assert await other.bodies(queue) == []


@case("transactions")
async def acks_wait_for_the_commit(env: Env) -> None:
    """What is acked stays unacked for its queue until the commit, then it is gone."""
    for type_ in QUEUE_TYPES:
        channel, queue, deliveries = await held(env, type_, 3)
        await channel.ack(deliveries[1].tag, multiple=True)
        await channel.tx_commit()
        await channel.close()
        other = await env.channel()
        assert (await env.arrives(other, queue)).body == b"2"
        assert await other.bodies(queue) == []


@case("transactions")
async def prefetch_waits_for_the_commit(env: Env) -> None:
    """What is acked counts towards the prefetch until the commit."""
    for type_ in QUEUE_TYPES:
        channel, other = await env.channel(), await env.channel()
        queue = await env.queue(other, x_queue_type=type_)
        await other.publish_all("", queue, [b"1", b"2"])
        await channel.tx_select()
        await channel.qos(1)
        consumer = await channel.consume(queue)
        await channel.ack((await consumer.next()).tag)
        await env.nothing_more(consumer)
        await channel.tx_commit()
        assert (await consumer.next()).body == b"2"


@case("transactions")
async def rejects_wait_for_the_commit(env: Env) -> None:
    """What is rejected or nacked comes back, or is dead-lettered, at the commit, not before."""
    for type_ in QUEUE_TYPES:
        channel, other = await env.channel(), await env.channel()
        exchange, dead = await env.dead_letters(other)
        queue = await env.queue(other, x_queue_type=type_, x_dead_letter_exchange=exchange)
        await other.publish_all("", queue, [b"0", b"1", b"2"])
        await channel.tx_select()
        tags = [found.tag for _ in range(3) if (found := await channel.get(queue)) is not None]
        await channel.reject(tags[0], requeue=False)
        await channel.nack(tags[1], requeue=False)
        await channel.nack(tags[2])
        await channel.round_trip()
        assert await other.bodies(dead) == []
        assert await other.bodies(queue) == []
        await channel.tx_commit()
        assert (await env.arrives(other, queue)).body == b"2"
        letters = [await env.arrives(other, dead) for _ in range(2)]
        assert {letter.body for letter in letters} == {b"0", b"1"}


@case("transactions")
async def rollback_takes_rejects_back(env: Env) -> None:
    """What is rejected in a transaction that is rolled back is held still, and may be acked."""
    for type_ in QUEUE_TYPES:
        channel, queue, (first, second) = await held(env, type_, 2)
        await channel.reject(second.tag)
        await channel.nack(first.tag, requeue=False)
        await channel.tx_rollback()
        assert await channel.bodies(queue) == []
        await channel.ack(second.tag, multiple=True)
        await channel.tx_commit()
        await channel.close()
        assert (await (await env.channel()).queue_declare(queue, passive=True)).messages == 0


@case("transactions")
async def recover_leaves_what_was_settled(env: Env) -> None:
    """basic.recover gives back what is unsettled; what was acked in the transaction is held."""
    for type_ in QUEUE_TYPES:
        channel, queue, (first, _) = await held(env, type_, 2)
        await channel.ack(first.tag)
        await channel.recover()
        other = await env.channel()
        assert (await env.arrives(other, queue)).body == b"1"
        assert await other.bodies(queue) == []
        await channel.tx_rollback()
        await channel.recover()
        assert (await env.arrives(other, queue)).body == b"0"


@case("transactions")
async def refused_publish_fails_the_commit(env: Env) -> None:
    """A message that a full classic queue refuses fails the commit with 406; all else is done."""
    channel, other = await env.channel(), await env.channel()
    queue = await env.queue(other, x_max_length=1, x_overflow="reject-publish")
    free = await env.queue(other)
    await channel.tx_select()
    await channel.publish("", queue, b"1")
    await channel.tx_commit()
    await channel.publish("", queue, b"2")
    await channel.publish("", free, b"3")
    async with expect_closed(channel, 406, "partial tx completion"):
        await channel.tx_commit()
    assert await other.bodies(queue) == [b"1"]
    assert await other.bodies(free) == [b"3"]


@case("transactions", needs={Feature.ROUTED_REPLIES})
async def replies_wait_for_the_commit(env: Env) -> None:
    """A direct reply that is published in a transaction comes with its commit."""
    asking, answering = await env.channel(), await env.channel()
    queue = await env.queue(asking)
    consumer = await asking.consume("amq.rabbitmq.reply-to", no_ack=True)
    await asking.publish("", queue, b"?", reply_to="amq.rabbitmq.reply-to")
    question = await env.arrives(answering, queue)
    await answering.tx_select()
    await answering.publish("", str(question.properties.reply_to), b"!")
    await answering.round_trip()
    await asking.round_trip()
    assert consumer.deliveries.empty()
    await answering.tx_commit()
    assert (await consumer.next()).body == b"!"


@case("transactions", about="bytes")
async def answers_of_transactions(env: BytesEnv) -> None:
    """A commit is answered after what it returns; a rollback with nothing else."""
    peer = await env.opened()
    await peer.send(commands.Tx.Select(), 1)
    await peer.expect(commands.Tx.SelectOk, 1)
    await peer.send_bytes(message_bytes(1, env.name, b"m", mandatory=True))
    await peer.send(commands.Tx.Rollback(), 1)
    await peer.expect(commands.Tx.RollbackOk, 1)
    await peer.send_bytes(message_bytes(1, env.name, b"m", mandatory=True))
    await peer.send(commands.Tx.Commit(), 1)
    await peer.expect(commands.Basic.Return, 1)
    await peer.receive()
    await peer.receive()
    await peer.expect(commands.Tx.CommitOk, 1)
