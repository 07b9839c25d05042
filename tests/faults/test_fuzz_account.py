"""The books of the fuzz: what they must find, and what is no fault."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.faults.fuzz.account import BY_THE_BROKER, LOOP, Account, end_of, problems_of
from tests.faults.fuzz.messages import Fuzzed, generated
from tests.faults.fuzz.plans import ENDS_DEAD, ENDS_DONE, FAILS_ALWAYS, HELD, Plan
from tests.faults.fuzz.wire import Raw

LADDER, DEAD_LETTERS = ("mqkit.delay.v1.00", "0.q"), ("", "q.dead")


def message(plan: Plan, content: str = "plain", lane: str = "async") -> Fuzzed:
    return Fuzzed(0, lane, content, plan, Raw(b"q", b"{}"))


def books(plan: Plan, content: str = "plain") -> Account:
    return Account([message(plan, content)])


def run_done(account: Account) -> None:
    """A message that is delivered, run, done and acked, as it should be."""
    account.delivered(0)
    account.ran(0)
    account.done(0)
    account.acked(0)


def dead_letter(account: Account, reason: str = "attempts-exhausted") -> None:
    """A message whose dead letter is confirmed before its ack, and found at the end."""
    account.delivered(0)
    account.confirmed(0, *DEAD_LETTERS)
    account.acked(0)
    account.expired(0, reason)


DONE = Plan("return", "None", ENDS_DONE, 1)
FAILS = Plan("raise", "ValueError", ENDS_DEAD, 3)


def test_done_once_is_right() -> None:
    """A message that was run, done and acked has ended as promised, and is open no more."""
    account = books(DONE)
    assert account.open == {0}
    run_done(account)
    assert not account.open
    assert account.problems() == {}
    assert end_of(account.records[0]) == "done"


def test_a_retry_and_a_dead_letter_are_right() -> None:
    """Each copy that is confirmed is the reason of one ack."""
    account = books(FAILS)
    account.delivered(0)
    account.ran(0)
    account.confirmed(0, *LADDER)
    account.acked(0)
    assert account.open == {0}
    account.ran(0)
    dead_letter(account)
    assert account.problems() == {}
    assert end_of(account.records[0]) == "dead: attempts-exhausted"


def test_an_ack_before_the_confirm_is_found() -> None:
    """A copy that is confirmed after the ack does not make it right."""
    account = books(FAILS)
    account.delivered(0)
    account.ran(0)
    account.acked(0)
    account.confirmed(0, *DEAD_LETTERS)
    account.expired(0, "attempts-exhausted")
    assert "acked, with neither" in " ".join(account.problems()[0])


def test_an_ack_without_a_run_is_found() -> None:
    """An ack of a message that nobody has done is a fault, whatever else is planned."""
    account = books(Plan("key is", "NaN"))
    account.delivered(0)
    account.acked(0)
    assert "acked, with neither" in " ".join(account.problems()[0])


def test_two_acks_for_one_run_are_found() -> None:
    """What a handler has done once is the reason of one ack, and not of two."""
    account = books(DONE)
    run_done(account)
    account.acked(0)
    assert "ended 2 times" in account.problems()[0]


def test_two_dead_letters_are_found() -> None:
    """A message that is in the dead letter queue twice has ended twice."""
    account = books(FAILS)
    dead_letter(account)
    account.expired(0, "attempts-exhausted")
    assert account.problems()[0] == ["ended 2 times"]


def test_done_and_dead_is_found() -> None:
    """One that was acked as done, and has a dead letter besides, has ended twice."""
    account = books(DONE)
    run_done(account)
    account.expired(0, "attempts-exhausted")
    assert "ended 2 times" in account.problems()[0]


def test_no_end_is_found() -> None:
    """A message that was given back, or that only its retry is confirmed of, has not ended."""
    account = books(FAILS)
    account.delivered(0)
    account.ran(0)
    account.nacked(0)
    account.confirmed(0, *LADDER)
    account.acked(0)
    assert account.problems()[0] == ["ended 0 times"]


def test_too_many_runs_are_found() -> None:
    """More runs than the policy allows are a fault, though the end is right."""
    account = books(FAILS)
    for _ in range(4):
        account.ran(0)
    dead_letter(account)
    assert account.problems()[0] == ["ran 4 times, and may 3"]


def test_deliveries_without_runs_are_found() -> None:
    """What comes again and again without a run is a fault, and in the end let through no more."""
    account = books(Plan("validator raises", "KeyError", ENDS_DEAD, 0))
    assert all(account.delivered(0) for _ in range(LOOP))
    assert not account.delivered(0)
    assert account.looping == {0}
    dead_letter(account, "undecodable")
    assert account.problems()[0] == [f"delivered {LOOP + 2} times"]


@pytest.mark.parametrize("reason", ["attempts-exhausted", "undecodable", BY_THE_BROKER])
def test_a_dead_letter_of_what_was_to_be_done_is_found(reason: str) -> None:
    """A harmless message has no reason to be dead, whatever is said to be one."""
    account = books(DONE)
    dead_letter(account, reason)
    assert account.problems()


def test_the_last_resort_may_end_what_a_broken_driver_left() -> None:
    """Whatever else a message and its handlers do, nobody needs a last resort."""
    for act, problems in ((FAILS_ALWAYS, 0), ("raise", 1)):
        account = books(Plan(act, "", ENDS_DEAD, 1))
        dead_letter(account, "unsettled")
        assert len(account.problems()) == problems


def test_what_was_to_be_dead_may_not_be_done() -> None:
    """A message that was acked as done although its handler was to fail is a fault."""
    account = books(FAILS)
    run_done(account)
    assert account.problems()[0] == ["it was to be dead, and is done"]


def test_what_cannot_be_decoded_may_be_dead_without_a_run() -> None:
    """Hostile content has an end that its plan does not know of; harmless content does not."""
    account = books(DONE, content="random bytes")
    dead_letter(account, "undecodable")
    assert account.problems() == {}


def test_what_expires_may_be_dead_without_a_reason() -> None:
    """The broker may end a message that has a time to live, and nothing else that mqkit can."""
    expiring = replace(message(DONE), raw=Raw(b"q", b"{}", {"expiration": b"1"}))
    account = Account([expiring])
    account.expired(0, BY_THE_BROKER)
    assert account.problems() == {}


def test_the_broker_may_end_what_a_broken_driver_cannot() -> None:
    """Where no copy can be written, a rejected message is the broker's to dead-letter."""
    account = books(Plan(FAILS_ALWAYS, "", ENDS_DEAD, 1))
    account.delivered(0)
    account.ran(0)
    assert account.breaks(0)
    account.refused(0)
    account.expired(0, BY_THE_BROKER)
    assert account.problems() == {}


def test_a_wait_of_a_year_is_an_end_where_it_was_asked_for() -> None:
    """A copy at the top of the delay ladder is one end for a policy that says so, and no other."""
    for ends, problems in ((frozenset({HELD}), 0), (ENDS_DEAD, 1)):
        account = books(Plan("wait is", "infinity", ends, 1))
        account.delivered(0)
        account.confirmed(0, "mqkit.delay.v1.27", "1.q")
        account.acked(0)
        assert not account.open
        assert len(account.problems()) == problems


def test_the_worst_message_is_named() -> None:
    """The most runs of a message are told with its number."""
    account = books(FAILS)
    account.ran(0)
    account.ran(0)
    assert account.worst == (0, 2)


def test_an_empty_record_has_not_ended() -> None:
    """A message of which nothing was ever heard is no message that ended well."""
    account = books(DONE)
    assert problems_of(message(DONE), account.records[0]) == ["ended 0 times"]


def test_a_seed_draws_the_same_messages() -> None:
    """Messages and plans depend on the seed and the number alone."""
    first = [generated(7, number, "q") for number in range(200)]
    assert first == [generated(7, number, "q") for number in range(200)]
    assert first != [generated(8, number, "q") for number in range(200)]
