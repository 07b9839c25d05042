"""The services that rows run in processes of their own (`Bench.process`).

`MQKIT_MATRIX_JOURNAL` is the journal's path and `MQKIT_MATRIX_QUEUE` the queue.
"""

from __future__ import annotations

import os
from pathlib import Path

from mqkit import Queue
from tests.faults.matrix.journal import Journal
from tests.faults.matrix.services import applying

JOURNAL = Journal(Path(os.environ["MQKIT_MATRIX_JOURNAL"]))
QUEUE = os.environ["MQKIT_MATRIX_QUEUE"]

service = applying(JOURNAL, QUEUE)

few = applying(JOURNAL, QUEUE, concurrency=4)
"""Handles 4 at a time, and holds more."""

poisoned = applying(JOURNAL, Queue(QUEUE, delivery_limit=2), concurrency=1, prefetch=5, attempts=3)
"""Handles one at a time; two deliveries without an ack, or three attempts, are the limit."""
