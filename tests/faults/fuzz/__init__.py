"""A fuzzer: hostile messages against hostile handlers; every message must end exactly once."""
