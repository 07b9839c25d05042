"""Decides who may see and do what: the token, sessions, and a guard before every page."""
