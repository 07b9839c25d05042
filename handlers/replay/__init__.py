"""Feeds a bank's statement through the services, and reconciles the ledger with the bank."""
