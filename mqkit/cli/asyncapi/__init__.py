"""`mqkit asyncapi`: describes services, and names breaking changes."""
