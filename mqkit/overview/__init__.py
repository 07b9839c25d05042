"""Joins what services, broker and stores say of themselves into one view of a system."""
