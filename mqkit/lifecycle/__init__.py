"""What a running service starts and ends, beside its consumers."""
