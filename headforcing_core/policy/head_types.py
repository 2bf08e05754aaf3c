"""The three roles of attention heads (method.md section 2)."""

HEAD_TYPES = ("local", "anchor", "memory")

Labels = tuple[tuple[str, ...], ...]
"""The head type of every head: (layers, heads)."""
