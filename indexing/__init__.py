"""Vectors to a searchable, updatable index on disk."""
