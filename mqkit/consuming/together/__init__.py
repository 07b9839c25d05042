"""Handles several messages of a queue together: in batches, or in commits that they share."""
