"""Keeps inbox, outbox and message states in a database, so that effects are made once.

A handler that takes a `Transaction` has its database work, the note that its message is handled,
and what it publishes committed together; a `def` handler takes a `SyncTransaction`. `Store` is
given to the service.
`pip install 'mqkit[store]'` brings what it needs.
"""

from mqkit.checks.extras import needs_extra

with needs_extra("store", "mqkit.store", "sqlalchemy"):
    from mqkit.registration.sagas import SagaEntry, SagaRow
    from mqkit.store.sagas import SagaStory
    from mqkit.store.schema import metadata
    from mqkit.store.states import State
    from mqkit.store.status import MessageStatus
    from mqkit.store.store import Store
    from mqkit.store.synchronous.transaction import SyncTransaction
    from mqkit.store.transaction import Transaction

__all__ = [
    "MessageStatus",
    "SagaEntry",
    "SagaRow",
    "SagaStory",
    "State",
    "Store",
    "SyncTransaction",
    "Transaction",
    "metadata",
]
