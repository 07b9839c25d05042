"""Processes over several messages, with a state, timeouts and compensation.

A `Saga` is a class whose methods handle messages of one process, an order's say. Its state is kept
in the store of the service, and committed with what it publishes.
"""

from mqkit.sagas.declared import compensates, continues, on_timeout, starts
from mqkit.sagas.errors import (
    SagaError,
    SagaMigrationError,
    SagaNotFoundError,
    SagaStateError,
    SagaVersionError,
)
from mqkit.sagas.saga import Saga
from mqkit.sagas.values import Found, Missing, SagaStatus

__all__ = [
    "Found",
    "Missing",
    "Saga",
    "SagaError",
    "SagaMigrationError",
    "SagaNotFoundError",
    "SagaStateError",
    "SagaStatus",
    "SagaVersionError",
    "compensates",
    "continues",
    "on_timeout",
    "starts",
]
