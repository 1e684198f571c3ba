"""Data sets, baselines, protocols and recorded results; run from a checkout."""
