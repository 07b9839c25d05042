"""Double entry bookkeeping in a database; it knows nothing of messages."""
