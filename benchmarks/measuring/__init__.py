"""Counts, times and memory of a piece of work, and how they are written down."""
