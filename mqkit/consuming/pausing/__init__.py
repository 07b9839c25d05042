"""When a handler takes no messages for a while, or holds fewer: its pauses, and long waits."""
