"""Input events of a canvas: keys, pointer, wheel, zoom."""
