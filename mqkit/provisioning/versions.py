"""Says what of the declarations a version of RabbitMQ refuses, or takes otherwise. Pure.

From RabbitMQ's release notes (4.0.1, 4.3.0) and its list of deprecated features
(https://www.rabbitmq.com/release-information/deprecated-features-list).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping

from mqkit.errors import ConfigurationError
from mqkit.provisioning.plan import Change, Kind
from mqkit.provisioning.wanted import Wanted
from mqkit.topology import Queue

Version = tuple[int, int]

_QUORUM_REFUSES = ("x-max-priority", "x-queue-mode", "x-queue-version")


def target_version(text: str) -> Version:
    """Read '4.3' or '4.3.6'.

    :raises ConfigurationError: it is no version, or one before 3.10, of which nothing is known here
    """
    found = re.fullmatch(r"(\d{1,3})\.(\d{1,3})(\.\d{1,3})?", text)
    version = (int(found[1]), int(found[2])) if found else (0, 0)
    if version < (3, 10):
        raise ConfigurationError(
            f"--target is a version of RabbitMQ from 3.10 on, such as 4.3, not {text!r}"
        )
    return version


def refused_by(
    version: Version, wanted: Wanted, policies: Mapping[str, Mapping[str, object]] | None = None
) -> Iterator[Change]:
    """List what a version refuses, or takes otherwise than one before.

    :param policies: the definitions of the virtual host's policies by their names, if they are seen
    """
    for queue in (*wanted.topology.queues, *wanted.left_out):
        for since, judge in _RULES:
            if version >= since and (why := judge(queue)):
                yield Change(Kind.REFUSED, "queue", queue.name, why)
    for name, definition in (policies or {}).items():
        mirrored = sorted(key for key in definition if key.startswith("ha-"))
        if version >= (4, 0) and mirrored:
            yield Change(
                Kind.REFUSED,
                "policy",
                name,
                f"{', '.join(mirrored)}: classic queues are not mirrored from 4.0 on, and the "
                "policy is ignored; use quorum queues",
            )


def _transient(queue: Queue) -> str:
    if queue.durable or queue.exclusive:
        return ""
    return (
        "it is transient and not exclusive, which 4.3.0 refuses by default "
        "(deprecated_features.permit.transient_nonexcl_queues; 4.3.6 takes it again): make it "
        "durable, or exclusive"
    )


def _master_locator(queue: Queue) -> str:
    if "x-queue-master-locator" not in queue.arguments:
        return ""
    return "x-queue-master-locator is refused by default from 4.3 on: say x-queue-leader-locator"


def _first_storage(queue: Queue) -> str:
    names = [name for name in ("x-queue-mode", "x-queue-version") if name in queue.arguments]
    if queue.type != "classic" or not names:
        return ""
    if names == ["x-queue-version"] and queue.arguments["x-queue-version"] != 1:
        return ""
    return (
        f"{' and '.join(names)}: the first storage of classic queues is gone from 4.3 on, and "
        "4.3.0 refuses what asks for it; leave it out"
    )


def _mirrored(queue: Queue) -> str:
    if "x-ha-policy" not in queue.arguments:
        return ""
    return "x-ha-policy: classic queues are not mirrored from 4.0 on; use type='quorum'"


def _not_for_quorum(queue: Queue) -> str:
    names = [name for name in _QUORUM_REFUSES if name in queue.arguments]
    if queue.type != "quorum" or not names:
        return ""
    return f"{' and '.join(names)}: a quorum queue does not take it"


_RULES: tuple[tuple[Version, Callable[[Queue], str]], ...] = (
    ((3, 10), _not_for_quorum),
    ((4, 0), _mirrored),
    ((4, 3), _transient),
    ((4, 3), _master_locator),
    ((4, 3), _first_storage),
)
