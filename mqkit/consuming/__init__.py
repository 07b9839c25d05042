"""Consumes a queue: each delivery is run to its outcome, and settled."""
