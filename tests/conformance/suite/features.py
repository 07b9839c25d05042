"""The features that cases need of a broker, and the declared list of what each broker lacks.

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
    HUGE_BODY_CLOSES = "closes the connection for a header of more than 512 MiB"
    BODY_LIMIT = "refuses a body of more than 16 MiB"
    OWN_HEADERS = "writes content headers anew: in order, with properties of any bytes"
    STREAM_ARGUMENTS = "refuses arguments of streams for consumers of other queues"
    ROUTED_WHEN_PUBLISHED = "finds where a message of a transaction goes as it is published"
    LOCAL_RANDOM = "has the exchange type x-local-random"
    MODULUS_HASH = "has the exchange type x-modulus-hash"
    EMPTY_TYPE_IS_THE_DEFAULT = "takes an empty queue type for the default one"
    NO_COUNT_AT_FIRST = "tells the delivery count of a quorum queue from the second delivery on"
    ROUTED_REPLIES = "takes every direct reply for routed"
    UNKNOWN_TYPE_CLOSES_THE_CHANNEL = "closes no more than the channel for an unknown exchange type"
    RETURNS_FIRST = "puts what came back to a quorum queue before the rest"
    STRICT_QUORUM_PRIORITIES = "delivers by 32 priorities from quorum queues"
    LAST_DEATH = "tells of a message's latest death in headers of its own"
    KEEPS_CC = "keeps the CC header of a dead letter that is given a routing key"
    QUORUM_REJECT_PUBLISH_DLX = "takes an overflow for quorum queues that they do not have"
    DEFAULT_DELIVERY_LIMIT = "gives quorum queues a delivery limit, and -1 for none"
    NACKS_DO_NOT_COUNT = "counts towards the delivery limit only what is rejected or lost"
    ACQUIRED_COUNT = "tells how often a message came back, counted or not"
    PRIORITY_TAKEOVER = "lets a consumer of higher priority become the single active one"
    OWN_DEATHS_ONLY = "counts only deaths that it has seen itself"


LACKS: Mapping[str, Mapping[Feature, str]] = {
    "4.3": {},
    "4.0": {
        Feature.HUGE_BODY_CLOSES: "it waited for the rest",
        Feature.MODULUS_HASH: "it was a plugin's before 4.3",
        Feature.PREFETCH_PER_CONSUMER_ONLY: "global QoS is denied by default from 4.3",
        Feature.BODY_SIZE_IS_CHECKED: "it waited for ever for the rest of less than nothing",
        Feature.ROUTED_REPLIES: "a direct reply was no queue then, and so returned if mandatory",
        Feature.EMPTY_TYPE_IS_THE_DEFAULT: "an empty type was refused then",
        Feature.STRICT_QUORUM_PRIORITIES: "before 4.3 there are two, taken two to one",
        Feature.NACKS_DO_NOT_COUNT: "before 4.3 every return counts",
        Feature.ACQUIRED_COUNT: "x-acquired-count came with 4.3",
    },
    "3.10": {
        Feature.HUGE_BODY_CLOSES: "it waited for the rest",
        Feature.BODY_LIMIT: "128 MiB by default before 4.0",
        Feature.OWN_HEADERS: "it passed headers on as they came, and read properties first",
        Feature.STREAM_ARGUMENTS: "it took them, and heeded none",
        Feature.ROUTED_WHEN_PUBLISHED: "a name of the default exchange was looked up at the commit",
        Feature.LOCAL_RANDOM: "it came with 4.0",
        Feature.MODULUS_HASH: "it was a plugin's before 4.3",
        Feature.PREFETCH_PER_CONSUMER_ONLY: "global QoS is denied by default from 4.3",
        Feature.UNKNOWN_TYPE_CLOSES_THE_CHANNEL: "closed the connection with 503 then",
        Feature.BODY_SIZE_IS_CHECKED: "it waited for ever for the rest of less than nothing",
        Feature.ROUTED_REPLIES: "a direct reply was no queue then, and so returned if mandatory",
        Feature.NO_COUNT_AT_FIRST: "quorum queues added x-delivery-count 0 then",
        Feature.EMPTY_TYPE_IS_THE_DEFAULT: "an empty type was refused then",
        Feature.RETURNS_FIRST: "before 4.0 it goes to the end, without a delivery limit",
        Feature.STRICT_QUORUM_PRIORITIES: "quorum queues have no priorities before 4.0",
        Feature.DEFAULT_DELIVERY_LIMIT: "before 4.0 there is no limit without x-delivery-limit",
        Feature.NACKS_DO_NOT_COUNT: "before 4.3 every return counts",
        Feature.ACQUIRED_COUNT: "x-acquired-count came with 4.3",
        Feature.PRIORITY_TAKEOVER: "it came with 4.0",
        Feature.LAST_DEATH: "x-last-death-* came with 3.13",
        Feature.KEEPS_CC: "it takes CC out, so that it does not route",
        Feature.OWN_DEATHS_ONLY: "before 4.0 an x-death header that a client sent was counted on",
    },
    "embedded": {
        Feature.QUORUM_REJECT_PUBLISH_DLX: "it says that it does not do it, rather than drop",
    },
}
"""By the broker's label: each feature that it lacks, with the reason."""


def lacking(label: str, needs: Iterable[Feature]) -> dict[Feature, str]:
    """Return which of these features a broker lacks, and why; nothing for an unknown label."""
    lacks = LACKS.get(label, {})
    return {feature: lacks[feature] for feature in needs if feature in lacks}
