"""The risk service, whose provider is away while there is a file: `MQKIT_TEST_FAULTS`/down."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from handlers import risk
from handlers.messages import CheckRisk

DOWN = Path(os.environ.get("MQKIT_TEST_FAULTS", os.devnull)) / "down"


class FaultyScorer(risk.TrustingScorer):
    """Does not answer while the file is there."""

    async def score(self, checks: Sequence[CheckRisk]) -> Sequence[int]:
        """Return 0 for each order.

        :raises ScorerDownError: the file is there
        """
        if DOWN.is_file():
            raise risk.ScorerDownError("the provider of scores does not answer")
        return await super().score(checks)


risk.TrustingScorer = FaultyScorer  # type: ignore[misc]
service = risk.service
