"""The clients that mqkit can run on, behind one Protocol."""
