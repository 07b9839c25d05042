"""Compares what services declare with a live broker, and brings the broker to it without a loss."""
