"""The grown world: places that a prompt names by what is in them, that change, and that are seen from two ends."""
