"""Transactions of `def` handlers: each goes on in the handler's thread."""
