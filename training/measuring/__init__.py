"""Ask a model questions with known answers, beside others."""
