"""Metrics of a running service, for Prometheus: counted here, and read when they are scraped.

`Metrics` is an observer that is given to a `Runtime`; `mqkit run --http` makes its own.
`pip install 'mqkit[metrics]'` brings what they are written with.
"""

from mqkit.observability.metrics.buckets import Buckets
from mqkit.observability.metrics.metrics import Metrics

__all__ = ["Buckets", "Metrics"]
