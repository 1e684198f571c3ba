"""What an item and a person are, and how each becomes a vector."""
