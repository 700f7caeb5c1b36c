"""The canvas: drawing, pointer, keys and toolbar."""
