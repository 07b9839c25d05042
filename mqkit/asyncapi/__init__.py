"""Describes services in AsyncAPI 3, and tells which changes of a description break others."""
