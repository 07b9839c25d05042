"""Draws what a store knows: the way of a message, and the history of a saga."""
