"""The systems that are measured: one program each, all with the commands of `base`.

They run in the peers' own environment, and not in that of mqkit's development: what a program
imports besides `base` is its peer's.
"""
