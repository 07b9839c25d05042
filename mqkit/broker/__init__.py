"""A connection that recovers, and what is declared on it: topology and the delay ladder."""
