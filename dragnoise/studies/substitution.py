"""Where and when semantics form (Fig. 2, 3): one block's output of one timestep takes the place of all later ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from dragnoise.atomic_write import write_picture
from dragnoise.images.perceptual import load_lpips, weights_at_hand
from dragnoise.images.pictures import as_picture
from dragnoise.models.model import Model
from dragnoise.plots.panels import NotebookFigure, label, picture_panels, style_axes
from dragnoise.plots.pictures import show_picture
from dragnoise.sampling import ddim
from dragnoise.sampling.ddim import DDIMState, Schedule
from dragnoise.session import stages
from dragnoise.session.session import DragSession
from dragnoise.toyland.measures import ssim_map


@dataclass(frozen=True, eq=False)
class Cell:
    """One substitution: block, step it was recorded at, the picture, and how it differs from the plain reconstruction.

    mse: of pixels in 0..1.  ssim: mean of Wang et al.'s map.
    lpips: AlexNet's, None without the package lpips and the weights of torchvision's AlexNet.
    """

    site: str
    step: int
    picture: Image.Image
    mse: float
    ssim: float
    lpips: float | None


@dataclass(frozen=True, eq=False)
class Substitutions:
    """The grid of a picture.  original: the plain reconstruction from the same latent."""

    original: Image.Image
    cells: tuple[Cell, ...]

    @property
    def sites(self) -> list[str]:
        return list(dict.fromkeys(cell.site for cell in self.cells))

    @property
    def steps(self) -> list[int]:
        return list(dict.fromkeys(cell.step for cell in self.cells))

    @property
    def data(self) -> list[dict[str, Any]]:
        """A row for each cell, as JSON values."""
        return [{n: getattr(cell, n) for n in ("site", "step", "mse", "ssim", "lpips")} for cell in self.cells]

    @property
    def figure(self) -> NotebookFigure:
        """The pictures, a row for each block and a column for each step, the plain reconstruction first."""
        sites, steps = self.sites, self.steps
        panels = picture_panels(None, len(sites), 1 + len(steps), side=1.7)
        for r, site in enumerate(sites):
            first = panels[r * (1 + len(steps))]
            show_picture(first, self.original)
            label(first, "unchanged" if r == 0 else "", site)
            row = [cell for cell in self.cells if cell.site == site]
            for panel, cell in zip(panels[r * (1 + len(steps)) + 1 :], row, strict=False):
                show_picture(panel, cell.picture)
                label(panel, f"from step {cell.step}" if r == 0 else "", f"MSE {cell.mse:.1e}, SSIM {cell.ssim:.2f}")
        return panels[0].figure

    @property
    def curves(self) -> NotebookFigure:
        """MSE and SSIM over the starting step, a line for each block."""
        figure = NotebookFigure(figsize=(8.0, 3.0), layout="constrained")
        for ax, name in zip(figure.subplots(1, 2), ("mse", "ssim"), strict=True):
            for site in self.sites:
                row = [cell for cell in self.cells if cell.site == site]
                ax.plot([c.step for c in row], [getattr(c, name) for c in row], marker="o", ms=3, label=site)
            style_axes(ax, "recorded at step", name.upper())
        return figure


def substitutions(
    session: DragSession,
    *,
    sites: Sequence[str] | None = None,
    steps: Sequence[int] = (40, 30, 20, 10),
    folder: str | Path | None = None,
    progress: bool = True,
) -> Substitutions:
    """Denoise a session's picture with every block and starting step in turn.

    sites: of `CutUNet.sites`, default all.  steps: of the schedule, at most `edit_from`; the inversion goes to it.
    folder: keeps a picture for each cell; what is there is read and not made again, so give each picture and model
        a folder of its own.

    Raises ValueError for a block or a step that there is not.
    """
    model, config = session.model, session.config
    chosen = model.unet.sites if sites is None else tuple(sites)
    if unknown := set(chosen) - set(model.unet.sites):
        raise ValueError(f"{sorted(unknown)} are no blocks of this model; choose of {', '.join(model.unet.sites)}.")
    if wrong := [step for step in steps if not 1 <= step <= config.edit_from]:
        raise ValueError(f"steps={wrong} must be 1 to edit_from={config.edit_from}, where denoising begins.")
    stages.require_inverted(session.store)
    kept = None if folder is None else Path(folder)
    z, worn = session.state.trajectory[-1], session.store.engine.worn(session.state)
    text, schedule = model.embed(session.prompt), Schedule(model, config.steps)

    def picture(name: str, states: Iterator[DDIMState]) -> Image.Image:
        path = None if kept is None else kept / f"{name}.png"
        if path is not None and path.is_file():
            return as_picture(path)
        made = session.picture_of(stages.last(states).latents)
        if path is not None:
            write_picture(path, made)
        return made

    original = picture("unchanged", ddim.denoise(worn, z, text, schedule, config.edit_from))
    cells = []
    grid = [(site, step) for site in chosen for step in steps]
    for site, step in tqdm(grid, "substituting", disable=not progress):
        states = substituted(worn, z, text, schedule, config.edit_from, site=site, step=step)
        made = picture(f"{site}-{step}", states)
        cells.append(Cell(site, step, made, *distances(made, original)))
    return Substitutions(original, tuple(cells))


def substituted(
    model: Model, z: Tensor, text: Any, schedule: Schedule, start: int, *, site: str, step: int
) -> Iterator[DDIMState]:
    """Denoise from `start`: plainly down to `step`, whose output of the block `site` is used from there on.

    z: (1, C, h, w) at step `start`.  A state per step.
    """
    for state in islice(ddim.denoise(model, z, text, schedule, start), start - step):
        yield state
        z = state.latents
    with torch.no_grad():
        recorded = model.encode(z, schedule.timestep(step), text, site=site).bottleneck.float()
    yield from ddim.denoise(model, z, text, schedule, step, edited=recorded, original=recorded, site=site)


def distances(picture: Image.Image, original: Image.Image) -> tuple[float, float, float | None]:
    """MSE of pixels in 0..1, mean SSIM, and LPIPS or None."""
    a, b = np.asarray(picture), np.asarray(original)
    mse = float(np.square((a.astype(float) - b) / 255).mean())
    return mse, float(ssim_map(a, b).mean()), _lpips(a, b)


@torch.no_grad()
def _lpips(a: np.ndarray, b: np.ndarray) -> float | None:
    if not weights_at_hand():
        return None
    try:
        distance = load_lpips()
    except ImportError:
        return None
    one, other = (torch.from_numpy(x.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1 for x in (a, b))
    return float(distance(one, other))
