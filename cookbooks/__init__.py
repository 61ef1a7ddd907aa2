"""Notebooks to follow, and what executes them."""
