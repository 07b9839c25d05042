"""What a broker may lack, and the declared list of what each of them does lack.

A case that needs what its broker lacks is counted as `lacks`, in a column of its own; with
`--check-lacks` it is run, and must fail, since otherwise the list would be untrue.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping


class Feature(enum.StrEnum):
    """Something that a case may need of a broker. The cases assert what RabbitMQ 4.3 does."""

    PREFETCH_PER_CONSUMER_ONLY = "has no prefetch for a whole channel"
    BODY_SIZE_IS_CHECKED = "refuses a body that is longer than its header says"
    EMPTY_TYPE_IS_THE_DEFAULT = "takes an empty queue type for the default one"
    NO_COUNT_AT_FIRST = "tells the delivery count of a quorum queue from the second delivery on"
    ROUTED_REPLIES = "takes every direct reply for routed"
    TRANSACTIONS = "has transactions"
    UNKNOWN_TYPE_CLOSES_THE_CHANNEL = "closes no more than the channel for an unknown exchange type"


LACKS: Mapping[str, Mapping[Feature, str]] = {
    "4.3": {},
    "4.0": {
        Feature.PREFETCH_PER_CONSUMER_ONLY: "global QoS is denied by default from 4.3",
        Feature.BODY_SIZE_IS_CHECKED: "it waited for ever for the rest of less than nothing",
        Feature.ROUTED_REPLIES: "a direct reply was no queue then, and so returned if mandatory",
        Feature.EMPTY_TYPE_IS_THE_DEFAULT: "an empty type was refused then",
    },
    "3.10": {
        Feature.PREFETCH_PER_CONSUMER_ONLY: "global QoS is denied by default from 4.3",
        Feature.UNKNOWN_TYPE_CLOSES_THE_CHANNEL: "closed the connection with 503 then",
        Feature.BODY_SIZE_IS_CHECKED: "it waited for ever for the rest of less than nothing",
        Feature.ROUTED_REPLIES: "a direct reply was no queue then, and so returned if mandatory",
        Feature.NO_COUNT_AT_FIRST: "quorum queues added x-delivery-count 0 then",
        Feature.EMPTY_TYPE_IS_THE_DEFAULT: "an empty type was refused then",
    },
    "embedded": {
        Feature.TRANSACTIONS: "tx is refused with 540: confirms do what services need of it",
    },
}
"""By the broker's label: each feature that it lacks, with the reason."""


def lacking(label: str, needs: Iterable[Feature]) -> dict[Feature, str]:
    """What a broker lacks of these features, with the reasons; nothing for an unknown label."""
    lacks = LACKS.get(label, {})
    return {feature: lacks[feature] for feature in needs if feature in lacks}
