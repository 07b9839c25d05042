"""Plays plans of the simulation in real time: processes that are killed, proxies, a real broker."""
