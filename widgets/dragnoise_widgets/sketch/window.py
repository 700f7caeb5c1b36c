"""Window: the part of a picture that is shown, and its zooming and panning as pure functions."""

from __future__ import annotations

from dataclasses import dataclass

CLOSEST = 32.0
"""The largest zoom."""


@dataclass(frozen=True)
class Window:
    """left, top: its corner in image pixels from the picture's corner.  zoom: 1 shows the whole picture."""

    left: float = 0.0
    top: float = 0.0
    zoom: float = 1.0

    def box(self, size: tuple[int, int]) -> tuple[float, float, float, float]:
        """(left, top, right, bottom) in image pixels of a picture of (width, height)."""
        return self.left, self.top, self.left + size[0] / self.zoom, self.top + size[1] / self.zoom


WHOLE = Window()


def zoomed(window: Window, size: tuple[int, int], factor: float, at: tuple[float, float]) -> Window:
    """Closer (factor > 1) or farther, with the image point `at` where it is.  size: (width, height) of the picture."""
    zoom = min(max(window.zoom * factor, 1.0), CLOSEST)
    x, y = at[0] + 0.5, at[1] + 0.5
    ratio = window.zoom / zoom
    return _inside(Window(x - (x - window.left) * ratio, y - (y - window.top) * ratio, zoom), size)


def panned(window: Window, size: tuple[int, int], dx: float, dy: float) -> Window:
    """The picture moved by so many image pixels under the window, as far as it goes."""
    return _inside(Window(window.left - dx, window.top - dy, window.zoom), size)


def _inside(window: Window, size: tuple[int, int]) -> Window:
    room = [length - length / window.zoom for length in size]
    return Window(min(max(window.left, 0.0), room[0]), min(max(window.top, 0.0), room[1]), window.zoom)
