"""Consumers: deliveries, prefetch and acknowledgements."""
