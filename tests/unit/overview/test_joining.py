"""Services of what their processes say."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import Any

from mqkit.observability.states.state import HandlerState, SagaCount, State, StoreState
from mqkit.overview.joining import Known, partitions_of, services_of
from mqkit.overview.rates import counted
from mqkit.overview.values import HandlerView, Outcomes, ServiceView
from mqkit.pause import Status
from tests.simulated_states import BEGAN, states

POST = HandlerState("post", "q", consumers={"consuming": 1})


def state(number: int = 0, up: float = 100.0, *handlers: HandlerState, **said: Any) -> State:
    """What process `number` of service `ledger` says."""
    known: dict[str, Any] = {
        "id": f"{number:016x}",
        "service": "ledger",
        "started_at": BEGAN + timedelta(seconds=number),
        "up": up,
        "handlers": handlers or (POST,),
        "problems": (),
        "store": None,
        "published": {},
    }
    made = states(60.0, processes=1, queues=1, services=1)[0]
    return dataclasses.replace(made, **(known | said))


def known(*said: State, is_silent: bool = False) -> Known:
    """What is known of a process that has said this."""
    return Known(said[-1], [counted(each) for each in said], BEGAN, is_silent=is_silent)


def only_service(*processes: Known) -> ServiceView:
    """The only service."""
    (service,) = services_of(processes)
    return service


def only_handler(*processes: Known) -> HandlerView:
    """The only handler."""
    (handler,) = only_service(*processes).handlers
    return handler


def post(**said: Any) -> HandlerState:
    """What the handler has done."""
    return dataclasses.replace(POST, **said)


def test_processes_are_sorted_into_services() -> None:
    """By name, each with its processes from the oldest on."""
    found = services_of(
        [
            known(state(2)),
            known(state(1)),
            known(state(3, service="billing")),
            known(state(4, phase="ended")),
        ]
    )
    assert [each.name for each in found] == ["billing", "ledger"]
    assert [each.id[-1] for each in found[1].processes] == ["1", "2"]


def test_a_service_is_well_if_nothing_of_it_is_to_be_looked_at() -> None:
    """A process that is silent, starts, or has a problem; a handler that fails; its store."""
    up = StoreState(is_up=True, dead=0)
    assert only_service(known(state(1, store=up)), known(state(2))).is_well
    for other in (
        known(state(2, 2.0, post(acked=17, retried=3))),
        known(state(2, 2.0, post(consumers={"consuming": 1, "paused": 1}))),
        known(state(2, store=dataclasses.replace(up, is_up=False))),
        known(state(2, store=dataclasses.replace(up, dead=1))),
        known(state(2), is_silent=True),
        known(state(2, phase="starting")),
        known(state(2, phase="stopping")),
        known(state(2, problems=("queue q: paused",))),
    ):
        assert not only_service(known(state(1)), other).is_well


def test_outcomes_are_added_up_and_rates_are_of_the_last_seconds() -> None:
    """Over all processes; held retries are retries."""
    one = known(state(1, 98.0, post(acked=100)), state(1, 100.0, post(acked=300)))
    two = known(
        state(2, 98.0, post(acked=10)),
        state(2, 100.0, post(acked=20, retried=4, held=2, dead_lettered=1, requeued=3, lost=5)),
    )
    handler = only_handler(one, two)
    assert handler.outcomes == Outcomes(320, 6, 1, 3, 5)
    assert handler.rate == (200 + 10 + 4 + 1 + 3) / 2
    rates = {each.id[-1]: each.rate for each in only_service(one, two).processes}
    assert rates == {"1": 100.0, "2": 9.0}


def test_failing_and_mean_are_of_the_last_minute() -> None:
    """What was before that does not count."""
    said = known(
        state(1, 900.0, post(acked=5, retried=500, runs=505, seconds=500.0)),
        state(1, 950.0, post(acked=10, retried=1000, runs=1010, seconds=1000.0)),
        state(1, 1000.0, post(acked=40, retried=1009, dead_lettered=1, runs=1050, seconds=1020.0)),
    )
    handler = only_handler(said)
    assert handler.failing == 0.25
    assert handler.mean_seconds == 0.5


def test_nothing_ran_and_nothing_failed() -> None:
    """Then there is no mean, and no share."""
    handler = only_handler(known(state(1)))
    assert (handler.failing, handler.mean_seconds, handler.rate) == (0.0, None, 0.0)


def test_of_a_silent_process_what_it_has_done_counts_and_not_what_it_does() -> None:
    """Its consumers may be gone, and so may what it had in flight."""
    heard = known(state(1, 100.0, post(acked=1, in_flight=2)))
    silent = known(
        state(2, 2.0, post(acked=10, in_flight=20, consumers={"paused": 1}, because=("old",))),
        is_silent=True,
    )
    handler = only_handler(heard, silent)
    assert handler.outcomes.acked == 11
    assert (handler.in_flight, handler.rate, handler.because) == (2, 0.0, ())
    assert handler.consumers == {Status.CONSUMING: 1}


def test_consumers_are_counted_by_status_and_reasons_told_once() -> None:
    """A status that is not known is left out: a later mqkit may have more."""
    paused = post(consumers={"paused": 2, "dancing": 1}, because=("DownError", "OtherError"))
    handler = only_handler(
        known(state(1, 9.0, paused)), known(state(2, 9.0, paused)), known(state(3))
    )
    assert handler.consumers == {Status.PAUSED: 4, Status.CONSUMING: 1}
    assert handler.because == ("DownError", "OtherError")
    assert handler.is_paused


def test_a_partition_is_owned_by_who_handled_it_last() -> None:
    """One that has just changed hands is told of by both; some are nobody's."""
    one = post(partitions=3, owned={"q.0": 0.0, "q.1": 30.0})
    two = post(partitions=3, owned={"q.1": 2.0})
    handler = only_handler(known(state(1, 9.0, one)), known(state(2, 9.0, two)))
    assert handler.owners == {"q.0": f"{1:016x}", "q.1": f"{2:016x}", "q.2": ""}


def test_partitions_have_the_names_that_the_topology_gives_them() -> None:
    """With 1 it is the queue itself; of a name that no queue can have there are none."""
    assert partitions_of("q", 2) == ("q.0", "q.1")
    assert partitions_of("q", 1) == ("q",)
    assert partitions_of("q", 0) == partitions_of("*", 3) == partitions_of("q", 9999) == ()


def test_a_store_is_up_if_all_processes_reach_it() -> None:
    """They see one store, at different moments: what is most counts."""
    sagas = (SagaCount("pay", "running", 3),)
    service = only_service(
        known(state(1, store=StoreState(True, 5, 1, 2.0, sagas))),
        known(state(2, store=StoreState(True, 7, 0, 1.0))),
        known(state(3, store=StoreState(False)), is_silent=True),
    )
    store = service.store
    assert store is not None
    assert (store.is_up, store.waiting, store.dead, store.oldest) == (True, 7, 1, 2.0)
    assert store.sagas == {("pay", "running"): 3}
    down = only_service(known(state(1, store=StoreState(False)))).store
    assert down is not None
    assert (down.is_up, down.waiting) == (False, None)


def test_publishes_are_added_up() -> None:
    """By result, and a second."""
    service = only_service(
        known(state(1, 98.0, published={"confirmed": 10}), state(1, published={"confirmed": 30})),
        known(state(2, published={"confirmed": 1, "nacked": 2})),
    )
    assert service.published == {"confirmed": 31, "nacked": 2}
    assert service.publish_rate == 10.0
