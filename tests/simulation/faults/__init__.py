"""The faults of a schedule: how each begins and ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.simulation.faults import broker, network, processes, surroundings
from tests.simulation.workload.plan import Fault

if TYPE_CHECKING:
    from tests.simulation.world import World


def begin(world: World, fault: Fault) -> None:
    """Begin a fault; it ends by itself."""
    KINDS[fault.kind](world, fault)


KINDS: dict[str, Callable[[World, Fault], None]] = {
    "kill service": processes.kill_service,
    "kill broker": processes.kill_broker,
    "kill publisher": processes.kill_publisher,
    "stop service": processes.stop_service,
    "stop broker": processes.stop_broker,
    "partition": network.partition,
    "one way": network.one_way,
    "slow": network.slow,
    "reset": network.reset,
    "close connections": broker.close_connections,
    "close channel": broker.close_channel,
    "cancel consumers": broker.cancel_consumers,
    "delete queue": broker.delete_queue,
    "alarm": broker.alarm,
    "clock jumps": surroundings.clock_jumps,
    "disk full": surroundings.disk_full,
    "database locked": surroundings.database_locked,
    "answer lost": surroundings.answer_lost,
    "commit fails": surroundings.commit_fails,
    "kill at commit": surroundings.kill_at_commit,
    "refused": broker.refused,
    "dependency down": surroundings.dependency_down,
}
