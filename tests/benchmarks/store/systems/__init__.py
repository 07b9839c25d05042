"""The programs that are measured: each takes the commands of `base`.

They run in the peers' own environment, and the one of mqkit also on the package of an earlier
commit: it uses only what both have, and asks which of the newer there is.
"""
