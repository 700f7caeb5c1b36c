"""Metrics: small functions of arrays, pictures and features."""
