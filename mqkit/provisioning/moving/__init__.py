"""Declares a queue anew while it is published to, and loses none of its messages.

RabbitMQ changes nothing of a queue that exists, and has no exchange of one queue for another. What
it has is this: an exchange routes to each queue once, by how many ways it may be, and what an
exchange cannot route goes to its alternate exchange. So:

1. **Detour.** An exchange (`...detour`) is bound to all that the queue is bound to, and the queue
   to it; its alternate exchange leads to a queue (`...held`). Whatever comes still reaches the
   queue, once.
2. **Divert.** The queue is unbound from its exchanges, and from the detour last. In that instant
   all that comes goes to `held`: nothing twice, nothing nowhere.
3. **Drain.** What is in the queue is moved to `moved`, each message confirmed there before it is
   acknowledged here, until nobody has anything of it any more.
4. **Swap.** The queue is deleted, and declared as it is wanted.
5. **Return.** The queue is bound to the detour, by which all that comes reaches it again, and to
   its exchanges. `moved`, and then `held`, are moved to it. The detour is taken away.

Each step can be done again where it has been done, and what tells how far it came is on the broker.
"""
