"""The publisher for synchronous code, and the threads and connections behind it."""
