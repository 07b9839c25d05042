"""Shows a running system in a browser: its services, queues, dead letters and stores.

`mqkit console` starts it. `pip install 'mqkit[console]'` brings what it needs.
"""

from mqkit.checks.extras import needs_extra

with needs_extra("console", "mqkit console", "jinja2", "starlette", "uvicorn"):
    import jinja2 as _jinja2
    import starlette as _starlette
    import uvicorn as _uvicorn

__all__: list[str] = []

del _jinja2, _starlette, _uvicorn
