"""What must hold of the payments, judged by what the services have said; without a database.

Each event states one *fact*: that an order was accepted, that it ended, that its hold was placed.
A fact is known by its kind and a key, and there is one of each: the same one again is a copy, and
another one in its place an alert. The facts of one order must agree, which is judged whenever
one comes, and none may be missing, which is judged when the order's time is over: events of several
services come in any order.
"""

from __future__ import annotations

from handlers.invariants.facts import Event, Fact, Kind, Sums, add_up, fact_of
from handlers.invariants.judging import Order, differing, unbalanced

__all__ = ["Event", "Fact", "Kind", "Order", "Sums", "add_up", "differing", "fact_of", "unbalanced"]
