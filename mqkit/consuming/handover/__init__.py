"""How a queue that one process consumes at a time gets from one to the next, in its order."""
