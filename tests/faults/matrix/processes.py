"""The services that rows run in processes of their own (`Bench.process`).

`MQKIT_MATRIX_JOURNAL` is the journal's path and `MQKIT_MATRIX_QUEUE` the queue.
"""

from __future__ import annotations

import os
from pathlib import Path

from tests.faults.matrix.journal import Journal
from tests.faults.matrix.services import applying

JOURNAL = Journal(Path(os.environ["MQKIT_MATRIX_JOURNAL"]))
QUEUE = os.environ["MQKIT_MATRIX_QUEUE"]

service = applying(JOURNAL, QUEUE)
