"""Panels of the studio, each on its own."""
