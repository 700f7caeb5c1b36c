"""Inspection of a session: feature maps, quick looks, and how well its model reproduces the picture."""
