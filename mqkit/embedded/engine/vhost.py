"""A virtual host: its exchanges, queues and bindings, and how a message gets through them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from mqkit.embedded.engine import arguments as queue_arguments
from mqkit.embedded.engine import dead_letters
from mqkit.embedded.engine.clock import Clock
from mqkit.embedded.engine.direct_reply import REPLY_PREFIX, Replies
from mqkit.embedded.engine.durable.journal import Journal
from mqkit.embedded.engine.memory import Memory
from mqkit.embedded.engine.message import Entry, Message
from mqkit.embedded.engine.queue import Queue
from mqkit.embedded.engine.routing import exchanges, route
from mqkit.embedded.engine.routing.bindings import Destination
from mqkit.embedded.engine.routing.exchanges import DEFAULT, PREDECLARED, RESERVED_PREFIX, Exchange
from mqkit.embedded.errors import (
    ReplyError,
    access_refused,
    not_found,
    precondition_failed,
    resource_locked,
)
from mqkit.embedded.wire.frames import type_name


class Target(Protocol):
    """What a message is offered to: a queue, or a channel that waits for a reply."""

    def offer(self, message: Message) -> bool:
        """Take a message; False if there is no room."""
        ...


class VirtualHost:
    """The exchanges, queues and bindings of one virtual host."""

    def __init__(
        self,
        name: str,
        clock: Clock,
        journal: Journal,
        defer: Callable[[Callable[[], None]], None],
        memory: Memory,
        *,
        token: Callable[[int], str],
    ) -> None:
        """Start with the predeclared exchanges; `token` makes a text of so many random bytes.

        :param defer: runs a call when the present one, which may walk through all, has ended
        """
        self.name = name
        self.clock = clock
        self.memory = memory
        self.queues: dict[str, Queue] = {}
        self.exchanges: dict[str, Exchange] = {DEFAULT: Exchange(DEFAULT, "direct", durable=True)}
        self.replies = Replies(token)
        self._journal, self._defer = journal, defer
        for exchange, type_ in PREDECLARED.items():
            self.exchanges[exchange] = Exchange(exchange, type_, durable=True)

    # Exchanges

    def exchange(self, name: str) -> Exchange:
        """Return the exchange of this name.

        :raises ReplyError: 404
        """
        try:
            return self.exchanges[name]
        except KeyError:
            raise not_found(f"no exchange '{name}' in vhost '{self.name}'") from None

    def declare_exchange(
        self,
        name: str,
        type_: str,
        *,
        durable: bool,
        auto_delete: bool,
        internal: bool,
        arguments: dict[str, Any],
    ) -> Exchange:
        """Declare an exchange, or check that it is there as asked for.

        :raises ReplyError: 403 for a reserved name, 406 where it is there otherwise
        """
        type_ = exchanges.checked_type(type_)
        alternate = arguments.get("alternate-exchange")
        if alternate is not None and not isinstance(alternate, str):
            raise precondition_failed(
                f"invalid type '{type_name(alternate)}' for arg 'alternate-exchange' in "
                f"exchange '{name}' in vhost '{self.name}'"
            )
        current = self.exchanges.get(name)
        if current is not None:
            exchanges.check_equivalent(
                current,
                self.name,
                type_=type_,
                durable=durable,
                auto_delete=auto_delete,
                internal=internal,
                arguments=arguments,
            )
            return current
        if name.startswith(RESERVED_PREFIX):
            raise access_refused(
                f"exchange name '{name}' contains reserved prefix '{RESERVED_PREFIX}*'"
            )
        exchange = Exchange(
            name,
            type_,
            durable=durable,
            auto_delete=auto_delete,
            internal=internal,
            arguments=arguments,
        )
        self.exchanges[name] = exchange
        self._journal.put_exchange(self.name, exchange)
        return exchange

    def delete_exchange(self, name: str, *, if_unused: bool = False) -> None:
        """Delete an exchange and its bindings; what is not there is deleted already.

        :raises ReplyError: 406 where it is in use and must not be
        """
        exchange = self.exchanges.get(name)
        if exchange is None:
            return
        if if_unused and exchange.bindings:
            raise precondition_failed(f"exchange '{name}' in vhost '{self.name}' in use")
        del self.exchanges[name]
        self._journal.drop_exchange(self.name, name)
        self._unbind_all(Destination("exchange", name))

    # Queues

    def queue(self, name: str, connection: object) -> Queue:
        """Return the queue of this name, for a connection that may use it.

        :raises ReplyError: 404, or 405 where another connection has it exclusively
        """
        queue = self.queues.get(name)
        if queue is None:
            raise not_found(f"no queue '{name}' in vhost '{self.name}'")
        self._check_owner(queue, connection)
        return queue

    def declare_queue(
        self,
        name: str,
        *,
        durable: bool,
        auto_delete: bool,
        owner: object | None,
        connection: object,
        arguments: dict[str, Any],
    ) -> Queue:
        """Declare a queue, or check that it is there as asked for.

        :raises ReplyError: 405 where it is another connection's, 406
            where it is there otherwise or its arguments cannot be
        """
        current = self.queues.get(name)
        if current is not None:
            self._check_owner(current, connection)
            if (owner is None) is not (current.owner is None):
                raise self._locked(name)
            queue_arguments.check_equivalent(
                name,
                self.name,
                received=(durable, auto_delete, arguments),
                current=(current.durable, current.auto_delete, current.arguments),
            )
            current.touch()
            return current
        options = queue_arguments.parse(arguments, name, self.name)
        if options.is_quorum and (not durable or owner is not None or auto_delete):
            what = (
                "non-durable"
                if not durable
                else "exclusive-owner"
                if owner is not None
                else "auto-delete"
            )
            raise precondition_failed(
                f"invalid property '{what}' for queue '{name}' in vhost '{self.name}'"
            )
        queue = Queue(
            name,
            self,
            options,
            durable=durable,
            auto_delete=auto_delete,
            owner=owner,
            arguments=arguments,
        )
        self.queues[name] = queue
        self._journal.put_queue(self.name, queue)
        return queue

    def delete_queue(self, queue: Queue, *, cancel: bool = True) -> int:
        """Delete a queue, its bindings and its messages; returns how many were ready.

        :param cancel: tell its consumers
        """
        if self.queues.get(queue.name) is not queue:
            return 0
        del self.queues[queue.name]
        count = len(queue.ready)
        queue.close()
        self._journal.drop_queue(self.name, queue.name)
        self._unbind_all(Destination("queue", queue.name))
        for consumer in list(queue.consumers):
            queue.consumers.remove(consumer)
            consumer.channel.consumer_gone(consumer, tell=cancel)
        return count

    def release(self, owner: object) -> None:
        """Delete the queues that only this connection could use."""
        for queue in [q for q in self.queues.values() if q.owner is owner]:
            self.delete_queue(queue, cancel=False)

    def consumer_left(self, queue: Queue) -> None:
        """Delete an auto-delete queue whose last consumer went."""
        if queue.auto_delete and not queue.consumers:
            self.delete_queue(queue)
        else:
            queue.serve()

    # Bindings

    def bind(
        self, source: Exchange, to: Destination, routing_key: str, arguments: dict[str, Any]
    ) -> None:
        """Bind a queue or an exchange; the same binding twice is one.

        :raises ReplyError: 406, the arguments are no header exchange's
        """
        self._check_queue_type(source, to, routing_key)
        if source.bind(to, routing_key, arguments) and source.durable and self._is_durable(to):
            self._journal.put_binding(self.name, source.name, to, routing_key, arguments)

    def is_bound(
        self, name: str, to: Destination, routing_key: str, arguments: Mapping[str, Any]
    ) -> bool:
        """Return True if there is this binding from the exchange of this name."""
        source = self.exchanges.get(name)
        return source is not None and source.bindings.find(to, routing_key, arguments) is not None

    def unbind(
        self, name: str, to: Destination, routing_key: str, arguments: Mapping[str, Any]
    ) -> None:
        """Remove a binding from the exchange of this name; what is not there is gone already."""
        source = self.exchanges.get(name)
        binding = None if source is None else source.bindings.find(to, routing_key, arguments)
        if source is not None and binding is not None:
            source.bindings.remove(binding)
            self._journal.drop_binding(self.name, source.name, to, routing_key, binding.arguments)
            self._source_lost_a_binding(source)

    # Messages

    def route(self, exchange: Exchange, message: Message) -> list[Queue]:
        """Return the queues that a message goes to, each once."""
        return route.route(exchange, message, self.exchanges, self.queues)

    def targets(self, exchange: Exchange, message: Message) -> Sequence[Target]:
        """Return what a published message is to be offered to: queues, or a waiting channel."""
        if exchange.name == DEFAULT and message.routing_key.startswith(REPLY_PREFIX):
            return (self.replies,) if self.replies.is_ours(message.routing_key) else ()
        queues = self.route(exchange, message)
        message.is_shared = len(queues) > 1
        return queues

    # What a queue needs around it (`queue.Host`)

    def dead_letter(self, queue: Queue, entry: Entry, reason: str) -> None:
        """Publish an entry to the dead letter exchange, when the present call has ended."""
        exchange = queue.options.dead_letter_exchange
        if exchange is None:
            self.removed(queue, entry)
            return
        message = dead_letters.dead_letter(queue, entry, reason, self.clock.wall)
        if queue.options.at_least_once:
            queue.held.add(entry, message)
            self._defer(lambda: self._settle_held(queue, entry, message))
        else:
            self.removed(queue, entry)
            self._defer(lambda: self._drop_dead(exchange, message))

    def queue_expired(self, queue: Queue) -> None:
        """Delete a queue that nobody used."""
        self.delete_queue(queue)

    def stored(self, queue: Queue, entry: Entry) -> None:
        """Write an entry down, if the queue is durable and the message persistent."""
        self.memory.hold(entry.message)
        if self._keeps(queue, entry):
            self._journal.put_entry(self.name, queue.name, entry)

    def changed(self, queue: Queue, entry: Entry) -> None:
        """Write the counts of an entry down, if it is durable."""
        if self._keeps(queue, entry):
            self._journal.update_entry(self.name, queue.name, entry)

    def removed(self, queue: Queue, entry: Entry) -> None:
        """Forget an entry that has left its queue for good."""
        self.memory.let_go(entry.message)
        if self._keeps(queue, entry):
            self._journal.drop_entry(self.name, queue.name, entry)

    def discarded(self, entries: Iterable[Entry]) -> None:
        """Forget entries; with their queue, they have gone from the journal."""
        for entry in entries:
            self.memory.let_go(entry.message)

    def _publish_dead(self, exchange: str, message: Message) -> bool:
        """Publish a dead letter; True if at least one queue took it, and none refused it."""
        source = self.exchanges.get(exchange)
        if source is None:
            return False
        targets = self.route(source, message)
        wanted = [queue for queue in targets if not dead_letters.is_cycle(message, queue.name)]
        taken = [queue.offer(message) for queue in wanted]
        return bool(taken) and all(taken)

    def _drop_dead(self, exchange: str, message: Message) -> None:
        """Publish a dead letter at most once: what nobody takes is gone, as with RabbitMQ."""
        self._publish_dead(exchange, message)

    def _settle_held(self, queue: Queue, entry: Entry, message: Message) -> None:
        """Publish a dead letter at least once: it leaves its queue when its target has it."""
        if self.queues.get(queue.name) is not queue:
            return
        if self._publish_dead(message.exchange, message):
            queue.held.remove(entry)
            self.removed(queue, entry)
        elif queue.held.timer is None or queue.held.timer.is_cancelled:
            self._watch_held(queue)

    def _watch_held(self, queue: Queue) -> None:
        due = self.clock.now() + queue.held.pause()
        queue.held.timer = self.clock.call_at(due, lambda: self._retry_held(queue))

    def _retry_held(self, queue: Queue) -> None:
        for entry, message in queue.held:
            if self._publish_dead(message.exchange, message):
                queue.held.remove(entry)
                self.removed(queue, entry)
        if queue.held:
            self._watch_held(queue)

    def _keeps(self, queue: Queue, entry: Entry) -> bool:
        return (
            queue.durable
            and queue.owner is None
            and (queue.options.is_quorum or entry.message.persistent)
        )

    def _is_durable(self, to: Destination) -> bool:
        if to.kind == "queue":
            return self.queues[to.name].durable and self.queues[to.name].owner is None
        return self.exchanges[to.name].durable

    def _check_queue_type(self, source: Exchange, to: Destination, routing_key: str) -> None:
        """Check that what is bound to a local random exchange is a classic queue."""
        if source.type != exchanges.LOCAL_RANDOM or routing_key:
            return
        queue = self.queues.get(to.name) if to.kind == "queue" else None
        if queue is None:
            raise precondition_failed("Destination not found")
        if queue.options.is_quorum:
            raise precondition_failed(
                "Queue type rabbit_quorum_queue not valid for this exchange type"
            )

    def _check_owner(self, queue: Queue, connection: object) -> None:
        if queue.owner is not None and queue.owner is not connection:
            raise self._locked(queue.name)

    def _locked(self, name: str) -> ReplyError:
        return resource_locked(
            f"cannot obtain exclusive access to locked queue '{name}' in vhost '{self.name}'. It "
            "could be originally declared on another connection or the exclusive property value "
            "does not match that of the original declaration."
        )

    def _unbind_all(self, to: Destination) -> None:
        for exchange in list(self.exchanges.values()):
            if exchange.bindings.remove_to(to):
                self._journal.drop_bindings_to(self.name, exchange.name, to)
                self._source_lost_a_binding(exchange)

    def _source_lost_a_binding(self, exchange: Exchange) -> None:
        if exchange.auto_delete and not exchange.bindings:
            self.delete_exchange(exchange.name)
