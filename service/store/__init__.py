"""Rows and values, encryption at rest, owner locks: the only room that knows a database."""
