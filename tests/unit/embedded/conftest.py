"""For all tests of the embedded broker's parts."""

from __future__ import annotations

from hypothesis import settings

# A busy machine is no failure: pytest's own timeout ends what hangs.
settings.register_profile("embedded", deadline=None)
settings.load_profile("embedded")
