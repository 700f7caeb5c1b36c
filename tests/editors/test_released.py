"""`DragConfig.released()` against the released program, written down again here from its description.

Plain diffusers: the whole U-Net each time, a hook that overrides the mid block's output, the feature
resized as a whole, torch's own Adam.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from helpers import at, resized, smooth_picture
from torch import Tensor

from dragnoise import DragConfig, DragSession, Model

WIDTH, HEIGHT = 75, 91
PROMPT = "a fox by day"
ITERATIONS = 4
LR = 0.3  # so that anchors move in four iterations
Pair = tuple[tuple[float, float], tuple[float, float]]
DRAGS: list[Pair] = [((30.4, 41.2), (61.7, 74.9)), ((50.1, 20.0), (52.3, 22.4))]  # the second is within 2 grid px
EDGES: list[Pair] = [((4.3, 45.0), (7.0, 80.0)), ((70.1, 30.0), (60.0, 70.0)), ((40.0, 87.1), (10.0, 80.0))]
"""Two grid pixels from the border: tracking's windows leave the map.  (On the border itself neighbours on the resized
map are equal, and rounding chooses among them.)"""
BORDER: list[Pair] = [((0.2, 45.0), (5.0, 80.0)), ((74.9, 30.0), (60.0, 70.0)), ((40.0, 90.9), (10.0, 80.0))]
"""On the border: the alignment's patches leave the map, and a click there has to stay on the grid."""


@dataclass
class Program:
    """The released program up to the inverted latent, and then an edit with it."""

    pipeline: StableDiffusionPipeline
    picture: np.ndarray
    inverted: list[Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        pipe = self.pipeline
        self.height, self.width = self.picture.shape[:2]
        self.half = (int(self.width / 2), int(self.height / 2))
        self.alphas = pipe.scheduler.alphas_cumprod.tolist()
        ids = pipe.tokenizer(
            PROMPT, padding="max_length", max_length=16, truncation=True, return_tensors="pt"
        ).input_ids
        with torch.no_grad():
            self.text = pipe.text_encoder(ids)[0]
            x = torch.tensor(self.picture).permute(2, 0, 1)[None].float() / 127.5 - 1
            z = pipe.vae.encode(x).latent_dist.mean * pipe.vae.config.scaling_factor
            self.inverted.append(z)
            for t in range(1, 700, 20):  # 35 of 50 steps
                noise = pipe.unet(z, t, encoder_hidden_states=self.text).sample
                z = self.moved(z, noise, self.alpha(t - 20), self.alpha(t))
                self.inverted.append(z)
        self.t = t

    def alpha(self, t: int) -> float:
        return self.alphas[t] if t >= 0 else float(self.pipeline.scheduler.final_alpha_cumprod)

    @staticmethod
    def moved(z: Tensor, noise: Tensor, a: float, b: float) -> Tensor:
        clean = (z - math.sqrt(1 - a) * noise) / math.sqrt(a)
        return math.sqrt(b) * clean + math.sqrt(1 - b) * noise

    def forward(self, z: Tensor, t: int, bottleneck: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """The noise, the third up block's output at half the picture's size, and the bottleneck."""
        unet, seen = self.pipeline.unet, {}

        def mid(module: Any, args: Any, out: Tensor) -> Tensor | None:
            seen["mid"] = out if bottleneck is None else bottleneck
            return bottleneck

        def up(module: Any, args: Any, out: Tensor) -> None:
            seen["up"] = out

        hooks = [unet.mid_block.register_forward_hook(mid), unet.up_blocks[2].register_forward_hook(up)]
        noise = unet(z, t, encoder_hidden_states=self.text).sample
        for hook in hooks:
            hook.remove()
        return noise, resized(seen["up"][0], self.half), seen["mid"]

    def edit(self, drags: list[Pair], mask: np.ndarray | None, iterations: int = ITERATIONS) -> Edit:
        z, t, (w, h) = self.inverted[-1], self.t, self.half
        points = [tuple((round(x / self.width * w), round(y / self.height * h)) for x, y in pair) for pair in drags]
        anchors, objectives = [a for a, _ in points], [b for _, b in points]
        anchors = [(min(x, w - 1), min(y, h - 1)) for x, y in anchors]
        initial_anchors = list(anchors)

        held = torch.zeros(1, 1, self.height, self.width)
        if mask is not None:
            held[0, 0][torch.from_numpy(mask) > 0] = 1
        held = torch.nn.functional.interpolate(held, (h, w), mode="nearest")
        held = 1 - torch.nn.functional.interpolate(held, z.shape[2:], mode="nearest")

        with torch.no_grad():
            noise, first, bottleneck = self.forward(z, t)
            below = self.moved(z, noise, self.alpha(t), self.alpha(t - 20))
        bottleneck = bottleneck.clone().requires_grad_()
        adam = torch.optim.Adam([bottleneck], lr=LR)
        result = Edit()
        tie = 1 + 1e-5  # beyond the map's last pixel the grid repeats it, but for rounding: then the first place counts
        for k in range(iterations):
            noise, feature, _ = self.forward(z, t, bottleneck)
            if k > 0:
                for i, (x, y) in enumerate(anchors):
                    x0, y0 = initial_anchors[i]
                    window = [
                        (px, py)
                        for py in range(max(y - 3, 0), min(y + 4, h)) for px in range(max(x - 3, 0), min(x + 4, w))
                    ]  # fmt: skip
                    apart = [float((feature[:, py, px] - first[:, y0, x0]).abs().sum().detach()) for px, py in window]
                    anchors[i] = next(
                        place for place, far in zip(window, apart, strict=True) if far <= tie * min(apart)
                    )
            if all(math.dist(a, b) < 2.0 for a, b in zip(anchors, objectives, strict=True)):
                break
            alignment = torch.zeros(())
            left_out = 0
            for (x, y), goal in zip(anchors, objectives, strict=True):
                length = math.dist((x, y), goal)
                if length < 2.0:
                    left_out += 1
                    continue
                vx, vy = (goal[0] - x) / length, (goal[1] - y) / length
                patch = [
                    (feature[:, py, px].detach() - at(feature, px + vx, py + vy)).abs()
                    for py in range(max(y - 1, 0), min(y + 2, h)) for px in range(max(x - 1, 0), min(x + 2, w))
                ]  # fmt: skip
                alignment = alignment + 9 * torch.stack(patch).mean()
            stepped = self.moved(z, noise, self.alpha(t), self.alpha(t - 20))
            masking = ((stepped - below).abs() * held).sum()
            loss = alignment + 0.1 * masking
            adam.zero_grad()
            loss.backward()
            adam.step()
            result.losses.append((float(loss.detach()), float(alignment.detach()), float(masking.detach())))
            result.anchors.append(list(anchors))
            result.left_out.append(left_out)
        result.bottleneck = bottleneck.detach()
        return result

    @torch.no_grad()
    def render(self, bottleneck: Tensor) -> np.ndarray:
        z = self.inverted[-1]
        for t in range(self.t, 0, -20):
            noise, _, _ = self.forward(z, t, bottleneck)
            z = self.moved(z, noise, self.alpha(t), self.alpha(t - 20))
        x = self.pipeline.vae.decode(z / self.pipeline.vae.config.scaling_factor).sample
        x = (x / 2 + 0.5).clamp(0, 1)
        if x.shape[2:] != (self.height, self.width):
            x = torch.nn.functional.interpolate(x, (self.height, self.width), mode="bilinear", align_corners=False)
        return (x[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8)

    def to_image(self, points: list[tuple[int, int]]) -> np.ndarray:
        return np.array([(x / self.half[0] * self.width, y / self.half[1] * self.height) for x, y in points])


@dataclass
class Edit:
    """What the program did: per iteration the loss with its parts, the anchors, how many points were left out."""

    losses: list[tuple[float, float, float]] = field(default_factory=list)
    anchors: list[list[tuple[int, int]]] = field(default_factory=list)
    left_out: list[int] = field(default_factory=list)
    bottleneck: Tensor = field(default_factory=lambda: torch.empty(0))


def some_mask() -> np.ndarray:
    """Odd borders, and values that are neither 0, 1 nor 255."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[13:70, 22:75] = 7
    return mask


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Neighbouring grid pixels are equal at the border, so rounding, which threads change, breaks tracking's ties."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def program(sd15: StableDiffusionPipeline) -> Program:
    return Program(Model(sd15).pipeline, np.asarray(smooth_picture(WIDTH, HEIGHT)))


@pytest.fixture(scope="module")
def inverted(sd15: StableDiffusionPipeline) -> DragSession:
    session = DragSession(Model(sd15), smooth_picture(WIDTH, HEIGHT), PROMPT, DragConfig.released())
    for _ in session.invert():
        pass
    return session


@pytest.fixture(scope="module")
def reconstruction(inverted: DragSession) -> np.ndarray:
    return np.asarray(inverted.reconstruct()).astype(int)


def session_like(inverted: DragSession, drags: list[Pair], mask: np.ndarray | None) -> DragSession:
    session = inverted.branch()
    session.config = DragConfig.released(lr=LR, max_iterations=ITERATIONS)
    session.drags, session.mask = drags, mask
    assert session.state.inverted
    return session


def test_inversion(program: Program, inverted: DragSession) -> None:
    assert inverted.latents.shape == (1, 4, 11, 9)
    assert len(inverted.trajectory) == len(program.inverted) == 36
    for ours, theirs in zip(inverted.trajectory, program.inverted, strict=True):
        # float32, and 35 steps that each divide by sqrt(alpha)
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("drags", "mask"),
    [
        (DRAGS, some_mask()), (DRAGS, None), (DRAGS, np.ones((HEIGHT, WIDTH), bool)), (EDGES, some_mask()),
    ],
    ids=["mask", "no mask", "full mask", "edges"],
)  # fmt: skip
def test_an_edit(
    program: Program, inverted: DragSession, reconstruction: np.ndarray, drags: list[Pair], mask: np.ndarray | None
) -> None:
    theirs = program.edit(drags, mask)
    picture = program.render(theirs.bottleneck)
    session = session_like(inverted, drags, mask)
    snapshots = list(session.optimize())

    assert len(snapshots) == len(theirs.losses) == ITERATIONS
    for snapshot, losses, anchors in zip(snapshots, theirs.losses, theirs.anchors, strict=True):
        assert (snapshot.loss, snapshot.alignment_loss, snapshot.mask_loss) == pytest.approx(losses, rel=1e-4, abs=1e-5)
        np.testing.assert_allclose(snapshot.anchors, program.to_image(anchors), rtol=1e-12)
    # Adam divides the gradient by its size, so where that is near zero rounding is seen; elsewhere by 1e-5 at most
    torch.testing.assert_close(session.bottleneck, theirs.bottleneck, rtol=1e-3, atol=1e-3)
    difference = np.abs(np.asarray(session.render()).astype(int) - picture)
    assert difference.max() <= 1 and (difference > 0).mean() < 0.001

    # and none of it for lack of anything happening
    assert theirs.anchors[-1] != theirs.anchors[0]
    assert (theirs.left_out[0] == 1) == (drags is DRAGS)
    assert [masking > 0 for _, _, masking in theirs.losses] == [False, *[mask is None or not mask.all()] * 3]
    assert np.abs(reconstruction - picture).mean() > 2


def test_an_update_at_the_border(program: Program, inverted: DragSession) -> None:
    theirs = program.edit(BORDER, None, iterations=1)
    session = session_like(inverted, BORDER, None)
    snapshot = session.step()
    assert snapshot.loss == pytest.approx(theirs.losses[0][0], rel=1e-5)
    np.testing.assert_allclose(snapshot.anchors, program.to_image(theirs.anchors[0]), rtol=1e-12)
    assert theirs.anchors[0] == [(0, 22), (36, 15), (20, 44)]
    torch.testing.assert_close(session.bottleneck, theirs.bottleneck, rtol=1e-3, atol=1e-3)


def test_stops_before_an_update_once_every_point_is_within_two_pixels(program: Program, inverted: DragSession) -> None:
    near = DRAGS[1:]
    assert program.edit(near, None).losses == []
    session = session_like(inverted, near, None)
    assert list(session.optimize()) == []
    assert len(session.history) == 1


@pytest.mark.parametrize(("dx", "updates"), [(1, 0), (2, ITERATIONS)])
def test_two_grid_pixels_are_not_near_enough(inverted: DragSession, dx: int, updates: int) -> None:
    """Points on the grid itself: exactly two pixels away is still to be dragged."""
    x, y = 20 / 37 * WIDTH, 20 / 45 * HEIGHT
    session = session_like(inverted, [((x, y), ((20 + dx) / 37 * WIDTH, y))], None)
    snapshots = list(session.optimize())
    assert len(snapshots) >= 1 if updates else snapshots == []


def test_the_picture_is_used_at_its_own_size(inverted: DragSession) -> None:
    assert inverted.frame.working == inverted.image.size == (WIDTH, HEIGHT)
    assert inverted.frame.grid == (37, 45)
