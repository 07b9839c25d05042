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


LACKS: Mapping[str, Mapping[Feature, str]] = {
    "4.3": {},
    "4.0": {
        Feature.PREFETCH_PER_CONSUMER_ONLY: "global QoS is denied by default from 4.3",
    },
    "3.10": {
        Feature.PREFETCH_PER_CONSUMER_ONLY: "global QoS is denied by default from 4.3",
    },
    "embedded": {},
}
"""By the broker's label: each feature that it lacks, with the reason."""


def lacking(label: str, needs: Iterable[Feature]) -> dict[Feature, str]:
    """What a broker lacks of these features, with the reasons; nothing for an unknown label."""
    lacks = LACKS.get(label, {})
    return {feature: lacks[feature] for feature in needs if feature in lacks}
