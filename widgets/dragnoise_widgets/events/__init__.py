"""What a canvas takes from the page: keys, pointer, wheel, zoom."""
