"""Runs services as processes of their own, and shows how far they are: for replay and demo."""
