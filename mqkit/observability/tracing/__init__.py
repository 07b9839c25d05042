"""Traces of messages with OpenTelemetry, from their publish to what became of them.

`Tracing` is given to a service, and to a publisher that stands alone.
`pip install 'mqkit[tracing]'` brings OpenTelemetry's API; which spans are kept, and where they go,
is up to the SDK that the application sets up.
"""

from mqkit.checks.extras import needs_extra

with needs_extra("tracing", "mqkit.observability.tracing", "opentelemetry"):
    from mqkit.observability.tracing.tracing import Tracing

__all__ = ["Tracing"]
