"""Bindings are found, kept in order and taken out, against a plain list of them."""

from __future__ import annotations

import time
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mqkit.embedded.engine.routing.bindings import Binding, Bindings, Destination

DESTINATIONS = st.builds(Destination, st.sampled_from(("queue", "exchange")), st.sampled_from("ab"))
KEYS = st.sampled_from(("", "k", "k.l"))
ARGUMENTS = st.sampled_from(({}, {"a": 1}, {"a": [1]}))


class BindingsMachine(RuleBasedStateMachine):
    """Bind, unbind, and let destinations go; a list is the model."""

    def __init__(self) -> None:
        super().__init__()
        self.bindings = Bindings()
        self.model: list[Binding] = []

    def expected(self, to: Destination, key: str, arguments: dict[str, Any]) -> Binding | None:
        """The binding with these three, by the model."""
        for each in self.model:
            if (each.destination, each.routing_key, each.arguments) == (to, key, arguments):
                return each
        return None

    @rule(to=DESTINATIONS, key=KEYS, arguments=ARGUMENTS)
    def bind(self, to: Destination, key: str, arguments: dict[str, Any]) -> None:
        found = self.bindings.find(to, key, arguments)
        assert found is self.expected(to, key, arguments)
        if found is None:
            new = Binding(to, key, arguments)
            self.bindings.add(new)
            self.model.append(new)

    @rule(to=DESTINATIONS, key=KEYS, arguments=ARGUMENTS)
    def unbind(self, to: Destination, key: str, arguments: dict[str, Any]) -> None:
        found = self.bindings.find(to, key, arguments)
        assert found is self.expected(to, key, arguments)
        if found is not None:
            self.bindings.remove(found)
            self.model.remove(found)

    @rule(to=DESTINATIONS)
    def let_go(self, to: Destination) -> None:
        left = [each for each in self.model if each.destination != to]
        assert self.bindings.remove_to(to) is (len(left) < len(self.model))
        self.model = left

    @invariant()
    def same(self) -> None:
        assert list(self.bindings) == self.model
        assert len(self.bindings) == len(self.model)
        for key in ("", "k", "k.l", "other"):
            assert list(self.bindings.with_key(key)) == [
                each for each in self.model if each.routing_key == key
            ]

    def teardown(self) -> None:
        for binding in self.model:
            self.bindings.remove(binding)
        kept = self.bindings
        for each in (kept._all, kept._by_key, kept._by_place, kept._by_destination):
            assert not each


TestBindings = BindingsMachine.TestCase
TestBindings.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_many_bindings_cost_no_more_each() -> None:
    """Binding and letting go of 20,000 queues takes about twenty times as long as of 1,000."""

    def seconds(count: int) -> float:
        bindings = Bindings()
        places = [Destination("queue", f"q{number}") for number in range(count)]
        start = time.process_time()
        for to in places:
            assert bindings.find(to, "k", {}) is None
            bindings.add(Binding(to, "k", {}))
        for to in places:
            assert bindings.remove_to(to)
        return time.process_time() - start

    few = min(seconds(1000) for _ in range(3))
    # Twenty times as many: in a scan of them all each would cost twenty times more besides.
    assert min(seconds(20_000) for _ in range(2)) < 150 * few
