"""The inspector's plots on a page with a dark theme."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from dragnoise_widgets.studio.studio import DragStudio


def plot(studio: DragStudio) -> np.ndarray:
    """(h, w, 4) of the figure that is shown."""
    page = studio.inspector.pages[studio.inspector.selected_index or 0]
    return np.asarray(Image.open(io.BytesIO(page.plot.picture.value)).convert("RGBA")).astype(int)


@pytest.mark.parametrize("tab", range(5))  # the sixth is the LoRA, and there is none
def test_plots_are_drawn_in_the_colours_of_the_page(studio: DragStudio, tab: int) -> None:
    studio.unfold(studio.inspector)
    studio.step(2)
    studio.inspector.selected_index = tab
    light = plot(studio)
    assert tuple(light[0, 0]) == (255, 255, 255, 255)
    studio.access.dark = True
    dark = plot(studio)
    assert dark[0, 0, 3] == 0, "the page is the ground"
    letters = (dark[..., 3] > 250) & (dark[..., :3].min(-1) > 200)
    assert letters.sum() > 100, "and letters are light"
    studio.access.dark = False
    np.testing.assert_array_equal(plot(studio), light)
