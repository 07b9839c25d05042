"""Publishes how each process of a service is, and collects what all of them say."""
