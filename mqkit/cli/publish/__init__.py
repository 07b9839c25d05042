"""`mqkit publish`: the lines of a file, confirmed one by one."""
