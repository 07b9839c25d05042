"""Runs a store's transactions in threads."""
