"""Comparison of two pictures: which they are, the curtain, the difference, the reconstruction."""
