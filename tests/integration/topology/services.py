"""Services that the commands of the tests name: as they were, and as they are wanted."""

from __future__ import annotations

from mqkit import Queue
from tests.integration.topology.support import service

before = service(Queue("ledger.post", type="classic"))
wanted = service(Queue("ledger.post"))
few = service(Queue("ledger.post", partitions=8), order_by="key")
many = service(Queue("ledger.post", partitions=12), order_by="key")
