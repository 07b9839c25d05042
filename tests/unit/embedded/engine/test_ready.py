"""The order in which messages leave a queue, against a list that is sorted each time."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from pamqp import commands

from mqkit.embedded.engine.message import Entry, Message
from mqkit.embedded.engine.ready import Ready

PRIORITIES = 3


def entry(number: int, priority: int, size: int) -> Entry:
    """A message in a queue."""
    return Entry(Message("", ("q",), commands.Basic.Properties(), b"x" * size), number, priority)


class ReadyMachine(RuleBasedStateMachine):
    """Messages come, go out and come back; a plain list is the model."""

    returns_first = False

    def __init__(self) -> None:
        super().__init__()
        self.ready = Ready(priorities=PRIORITIES, returns_first=self.returns_first)
        self.waiting: list[tuple[tuple[int, int, int], Entry]] = []
        """With what they are sorted by: priority, fresh or returned, and place."""
        self.out: list[Entry] = []
        self.numbers = 0
        self.returns = 0

    @rule(priority=st.integers(0, PRIORITIES), size=st.integers(0, 9))
    def come(self, priority: int, size: int) -> None:
        self.numbers += 1
        new = entry(self.numbers, priority, size)
        self.ready.append(new)
        self.waiting.append(((-priority, 1, self.numbers), new))

    @rule()
    def go(self) -> None:
        head = self.ready.head()
        if head is not None:
            self.leave(head)

    @rule(data=st.data())
    def go_of_some_priority(self, data: st.DataObject) -> None:
        if heads := list(self.ready.heads()):
            self.leave(data.draw(st.sampled_from(heads)))

    def leave(self, head: Entry) -> None:
        self.ready.take(head)
        self.waiting = [each for each in self.waiting if each[1] is not head]
        self.out.append(head)

    @rule(data=st.data())
    def come_back(self, data: st.DataObject) -> None:
        if self.out:
            back = self.out.pop(data.draw(st.integers(0, len(self.out) - 1)))
            self.returns += 1
            self.ready.put_back(back)
            place = (0, self.returns) if self.returns_first else (1, back.number)
            self.waiting.append(((-back.priority, *place), back))

    @rule()
    def clear(self) -> None:
        assert self.ready.clear() == self.expected()
        self.waiting.clear()

    @invariant()
    def in_order(self) -> None:
        expected = self.expected()
        assert list(self.ready) == expected
        assert len(self.ready) == len(expected)
        assert self.ready.bytes == sum(each.size for each in expected)
        assert self.ready.head() is (expected[0] if expected else None)
        firsts = {each.priority: each for each in reversed(expected)}
        assert list(self.ready.heads()) == [firsts[at] for at in sorted(firsts, reverse=True)]

    def expected(self) -> list[Entry]:
        """What waits, by the model."""
        return [each for _, each in sorted(self.waiting, key=lambda pair: pair[0])]


class QuorumMachine(ReadyMachine):
    """As quorum queues do: what comes back goes out first."""

    returns_first = True


TestClassic = ReadyMachine.TestCase
TestClassic.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestQuorum = QuorumMachine.TestCase
TestQuorum.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)


def test_a_long_queue_is_as_quick_as_a_short_one() -> None:
    """Looking at the head does not cost more with 31 priorities and 50,000 messages."""
    ready = Ready(priorities=31, returns_first=True)
    for number in range(50_000):
        ready.append(entry(number, 4, 0))
    taken = 0
    while (head := ready.head()) is not None:
        assert len(ready) == 50_000 - taken
        ready.take(head)
        taken += 1
    assert taken == 50_000
