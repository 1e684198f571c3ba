"""Retrieve, re-rank, explain."""
