"""A small world with known truth, a tiny causal Wan model trained on it, and the decoder that shows it."""
