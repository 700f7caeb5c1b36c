"""Panels of the studio, independent of each other."""
