"""The fault matrix: what must hold while brokers, networks and workers fail.

`python -m tests.faults.matrix` runs it and prints what it saw.
"""
