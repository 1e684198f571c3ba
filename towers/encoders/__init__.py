"""Encoders of content, one file each; `contract` says what they share and where a new one is registered."""
