"""Shows errors, and text that came from outside, in logs and in errors."""
