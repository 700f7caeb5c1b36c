"""A picture like a photograph, drawn: a balloon over hills, with the balloon where one asks for it.

For trying a model of photographs without a photograph.  The picture with the balloon elsewhere is the answer to a drag,
so an edit can be measured.  The embedded model does not know such pictures.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFilter

RADIUS, LENGTH, BASKET = 0.115, 1.25, 1.72
"""Radius of the envelope as a share of the side; its end and the basket's place, in radii below its centre."""

RIDGES = ((0.62, 0.05, 0.15), (0.70, 0.06, 0.4), (0.79, 0.07, 0.7), (0.90, 0.05, 1.0))
"""Of each range of hills, far to near: height and roughness as shares of the side, and how little haze hides it."""

HAZE, LAND = (0.72, 0.66, 0.66), (0.16, 0.24, 0.15)
RED, CREAM, BLUE, WICKER = (0.80, 0.13, 0.10), (0.96, 0.84, 0.62), (0.12, 0.22, 0.42), (0.33, 0.21, 0.12)


def balloon_photo(side: int = 512, centre: tuple[float, float] = (0.36, 0.34), *, seed: int = 7) -> Image.Image:
    """A square picture of `side` pixels, RGB; the same arguments give the same pixels.

    centre: of the balloon's envelope, (x, y) as shares of the side.  seed: of clouds, hills, woods and grain.
    """
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:side, 0:side] / side
    picture = sky(rng, y)
    for height, rough, near in RIDGES:
        ridge = height + rough * sum((noise(rng, side, (3 * 2**k, 1))[0] - 0.5) / 1.9**k for k in range(6))
        below = y - ridge
        woods = 0.75 + 0.5 * noise(rng, side, (50, 60)) if near > 0.5 else 1.0
        lit = woods * (1.15 - 0.3 * (below / 0.12).clip(0, 1))
        hazy = near * np.array(LAND) * lit[..., None] + (1 - near) * np.array(HAZE)
        picture = over(picture, hazy, (below * 0.7 * side).clip(0, 1))
    picture = balloon(picture, (x - centre[0]) / RADIUS, (y - centre[1]) / RADIUS)
    picture *= 1 - 0.35 * ((x - 0.5) ** 2 + (y - 0.5) ** 2)[..., None]  # the lens
    picture += rng.normal(0, 0.01, picture.shape)  # the sensor
    image = Image.fromarray((picture.clip(0, 1) * 255).astype(np.uint8))
    return image.filter(ImageFilter.GaussianBlur(side / 900))


def sky(rng: np.random.Generator, y: np.ndarray) -> np.ndarray:
    """Blue above, warm at the horizon, with thin clouds, (side, side, 3).  y: (side, side), 0 at the top to 1."""
    low = (y / 0.7).clip(0, 1)[..., None]
    colours = (1 - low) * np.array([0.30, 0.46, 0.72]) + low * np.array([0.95, 0.76, 0.60])
    clouds = sum(noise(rng, len(y), (2 * 2**k, 5 * 2**k)) / 2**k for k in range(5)) / 1.94
    return over(colours, (1.0, 0.93, 0.87), ((clouds - 0.52) * 2.6).clip(0, 1) * (0.55 - 0.3 * low[..., 0]))


def balloon(picture: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The picture with a striped balloon, lit from the left, in it.  u, v: (side, side), radii right and below."""
    pixel = RADIUS * len(picture)  # a radius in pixels, for soft edges of one pixel
    tapered = np.sqrt((1 - (v.clip(0) / 1.42) ** 2).clip(0)) * (1 - 0.127 * v.clip(0))
    width = np.where(v < 0, np.sqrt((1 - v**2).clip(0)), tapered)
    across = (u / width.clip(1e-3)).clip(-1, 1)
    stripe = 1 / (1 + np.exp(-12 * np.sin(8 * np.arcsin(across))))
    cloth = over(over(np.array(CREAM), RED, stripe), BLUE, np.abs(v - 0.15) < 0.2)
    light = 0.35 + 0.49 * np.sqrt(1 - across**2) - 0.41 * across - 0.22 * v.clip(-1, 1)
    envelope = ((width - np.abs(u)) * pixel).clip(0, 1) * (v < LENGTH)
    picture = over(picture, cloth * light.clip(0.12, 1.2)[..., None], envelope)
    for end in (-1, 1):
        rope = (1.2 - 400 * RADIUS * np.abs(u - end * (0.73 - 0.31 * v))).clip(0, 1) * (v > 1.22) * (v < BASKET - 0.1)
        picture = over(picture, (0.0, 0.0, 0.0), 0.8 * rope)
    weave = 0.8 + 0.2 * np.sin(80 * u) * np.sin(100 * v)
    hanging = ((0.17 - np.abs(u)) * pixel).clip(0, 1) * ((0.13 - np.abs(v - BASKET)) * pixel).clip(0, 1)
    return over(picture, weave[..., None] * np.array(WICKER), hanging)


def over(picture: np.ndarray, colour: np.ndarray | tuple[float, ...], opacity: np.ndarray) -> np.ndarray:
    """A colour over a picture, each (3,) or (side, side, 3), with an opacity (side, side) of 0 to 1."""
    return np.asarray(picture + np.asarray(opacity, float)[..., None] * (np.asarray(colour) - picture))


def noise(rng: np.random.Generator, side: int, cells: tuple[int, int]) -> np.ndarray:
    """Smooth noise of about 0 to 1, (side, side), with a random value for each of the cells across and down."""
    values = Image.fromarray(rng.random((cells[1] + 1, cells[0] + 1)).astype(np.float32))
    return np.asarray(values.resize((side, side), Image.Resampling.BICUBIC))
