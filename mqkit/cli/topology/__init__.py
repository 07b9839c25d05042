"""The commands of `mqkit topology`."""
