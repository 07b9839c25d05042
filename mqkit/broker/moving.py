"""How services know that a queue is being moved, so that they leave its bindings alone.

While `mqkit topology apply` declares a queue anew, its messages are held aside. A service that binds
the queue again meanwhile, as each does at its start and every minute, would let them come twice.
"""

from __future__ import annotations

from mqkit.broker.delays import PREFIX

HOLD = f"{PREFIX}.move."
"""Begins the names of what a move puts on the broker: where services have permissions already."""

MOVING = f"{PREFIX}.moving"
"""An exchange that is there while any queue of the virtual host is moved."""
