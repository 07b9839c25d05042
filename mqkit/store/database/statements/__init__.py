"""Statements: what a text of SQL does, and those that read and write the rows of sagas."""
