"""Pauses of handlers whose dependencies are down: the circuit breaker and what carries it out."""
