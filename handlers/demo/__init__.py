"""Runs all payment services on generated orders, kills some of them, and adds everything up."""
