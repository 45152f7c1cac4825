"""Held-out migrations, by execution on the real library."""
