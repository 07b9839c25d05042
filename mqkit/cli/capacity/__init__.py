"""`mqkit capacity`: how many workers a load and a deadline need."""
