"""Re-ranking as a short pipeline: steps that turn the candidates of retrieval into the list that is shown."""
