"""`mqkit publish`: publishes the lines of a file."""
