"""Answers what people ask a store: what became of a message, which sagas go on, what waits."""
