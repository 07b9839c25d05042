"""Errors of sagas: what a method did that it cannot do, and states that cannot be read."""

from __future__ import annotations

import random

from mqkit.errors import MqkitError, UncountedError


class SagaError(MqkitError):
    """The root of what goes wrong with a saga."""


class SagaStateError(SagaError):
    """A method did what its saga cannot do as it stands, or its state cannot be kept as it is."""


class SagaNotFoundError(SagaError):
    """A message continues a saga that is not there (`Missing.RETRY`): tried again by its policy."""


class SagaMigrationError(SagaError):
    """The state of an older version could not be made one of this version."""


HELD_MIN, HELD_MAX = 5.0, 15.0
"""Seconds until a message of a newer version's saga is tried again, drawn between these."""


class SagaVersionError(SagaError, UncountedError):
    """A saga's state was written by a newer version of its class than this process has.

    Nothing is changed. The message is tried again later, without counting the attempt, until a
    process with that version takes it.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.wait = random.uniform(HELD_MIN, HELD_MAX)
