"""Has all services pay the standing orders of a bank's statement, and reconciles each account."""
