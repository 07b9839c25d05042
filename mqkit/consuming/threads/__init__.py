"""The threads of `def` handlers, and the transactions that begin and end in them."""
