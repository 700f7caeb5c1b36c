"""What a LoRA does for pictures that the embedded model was not trained on.

    python -m benchmarks lora                 # 20 scenes; goes on where it was left; prints a Markdown table
    python -m benchmarks lora --scenes 2 --steps 20 --folder /tmp/try

Scenes are beyond the training range either in shape (factors outside of `RANGES`) or in colour
(channels exchanged, or a negative).  Of each, in dB, bare and with a LoRA: PSNR of the reconstruction
after inversion, against the picture and against what the autoencoder alone gives back, which is as
good as it can get; the same with the unedited bottleneck held in place as in an edit; and of an edit
outside its mask.  The pictures side by side are kept for looking at.  At last, how long an iteration
takes with a LoRA on, against without, taken in turns.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFilter
from tqdm import tqdm

from dragnoise import Drag, DragSession, Model, load_model
from dragnoise.atomic_write import require_writable, write_picture, write_text
from dragnoise.images.difference import psnr
from dragnoise.lora import LoraSettings, Subject, fuse
from dragnoise.sampling import ddim
from dragnoise.toyland import Scene, caption, landmarks, render, sample_scene

SEED = 40_000_000
"""Of the first scene; training and the drag suite use others."""

BEYOND: dict[str, tuple[float, float]] = {
    "size": (1.3, 1.45), "head_size": (20.5, 23), "ear_length": (1.4, 1.8), "eye_size": (5.2, 6.5),
    "mouth_width": (9, 12), "tail_length": (27, 33), "body_width": (22, 26), "sun_radius": (13, 18),
    "peak_width": (48, 62), "far_height": (14, 20), "horizon": (60, 67), "foot_spread": (14, 18),
}  # fmt: skip
"""Ranges that begin where those of the training end."""

MEASURES = ("reconstruction", "reconstruction, of the VAE's", "bottleneck held, of the VAE's", "edit outside the mask")

CHANNELS = ((1, 2, 0), (2, 0, 1), (1, 0, 2), (2, 1, 0), (0, 2, 1))


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """A picture and its drags; mask: (128, 128) bool, where the right answer differs and a little round it."""

    kind: str
    name: str
    picture: np.ndarray
    prompt: str
    drags: list[Drag]
    mask: np.ndarray


def make_case(index: int) -> Case:
    """Even ones are strange in shape, odd ones in colour; every other of both drags the sun, the rest the head."""
    scene, rng = sample_scene(SEED + index), np.random.default_rng(SEED + index)
    colours = index % 2 == 1
    if not colours:
        strange = rng.choice(list(BEYOND), size=6, replace=False)
        factors: dict[str, Any] = {str(name): float(rng.uniform(*BEYOND[str(name)])) for name in strange}
        scene = dataclasses.replace(scene, **factors)
    names, answer = _moved(scene, sun=index // 2 % 2 == 0)
    before, after = landmarks(scene), landmarks(answer)
    old, new = render(scene), render(answer)
    changed = Image.fromarray(np.abs(old.astype(int) - new).max(-1) > 12).convert("L").filter(ImageFilter.MaxFilter(9))
    return Case(
        kind=(kind := "colours" if colours else "shapes"),
        name=f"{kind}-{index}",
        picture=_recoloured(old, index // 2) if colours else old,
        prompt=caption(scene),
        drags=[Drag(before[name], after[name]) for name in names],
        mask=np.asarray(changed) > 0,
    )


def _moved(scene: Scene, *, sun: bool) -> tuple[tuple[str, ...], Scene]:
    """Landmarks to drag, and the scene that this asks for: to the side where there is more room."""
    if sun:
        return ("sun",), dataclasses.replace(scene, sun_x=scene.sun_x + (18 if scene.sun_x < 64 else -18))
    return ("left_eye", "right_eye", "chin"), dataclasses.replace(
        scene, lean=scene.lean + (12 if scene.x < 64 else -12)
    )


def _recoloured(picture: np.ndarray, index: int) -> np.ndarray:
    exchanged = picture[..., CHANNELS[index % len(CHANNELS)]]
    return 255 - exchanged if index % 3 == 2 else exchanged


def measure(session: DragSession, case: Case) -> tuple[dict[str, float], Image.Image, Image.Image]:
    """`MEASURES` of the session with what it wears, its reconstruction and its edit."""
    reconstruction, edit = session.reconstruct(), session.run(progress=False)
    ceiling = session.picture_of(session.state.trajectory[0])
    numbers = (
        psnr(reconstruction, case.picture),
        psnr(reconstruction, ceiling),
        psnr(held(session), ceiling),
        psnr(edit, case.picture, ~case.mask),
    )
    return dict(zip(MEASURES, numbers, strict=True)), reconstruction, edit


def held(session: DragSession) -> Image.Image:
    """The method without a drag: denoised with the unedited bottleneck in place, as an edit is with the edited one."""
    model = session.model if session.lora is None else fuse(session.model, session.lora)
    config, bottleneck = session.config, session.history[0].bottleneck
    *_, last = ddim.denoise(
        model, session.state.trajectory[-1], model.embed(session.prompt),
        ddim.Schedule(model, config.steps), config.edit_from, edited=bottleneck, original=bottleneck,
        refine_from=config.refine_from, propagation="replace",
    )  # fmt: skip
    return session.picture_of(last.latents)


def compare(model: Model, case: Case, steps: int, folder: Path) -> dict[str, Any]:
    """A case bare and with a LoRA; leaves a sheet: given, reconstruction bare and with, edit bare and with."""
    session = DragSession(model, case.picture, case.prompt)
    session.drags, session.mask = case.drags, case.mask
    bare, *before = measure(session, case)
    seconds = sum(step.seconds for step in session.fit_lora(steps))
    dressed, *after = measure(session, case)
    sheet = [case.picture, *(np.asarray(x) for pair in zip(before, after, strict=True) for x in pair)]
    write_picture(folder / f"{case.name}.png", Image.fromarray(np.concatenate(sheet, axis=1)))
    return {"kind": case.kind, "name": case.name, "bare": bare, "lora": dressed, "fit_seconds": seconds}


def compare_all(model: Model, count: int, steps: int, folder: Path) -> list[dict[str, Any]]:
    """Case by case; what was measured before with the same weights and numbers is read, not measured again."""
    results = []
    require_writable(folder / "results.json")  # before minutes of work
    for index in tqdm(range(count), "scenes"):
        case = make_case(index)
        subject = Subject(model, Image.fromarray(case.picture), case.picture.shape[1::-1], case.prompt)
        key = f"{subject.key(LoraSettings())} {steps} {model.default_config}"
        kept = folder / f"{case.name}.json"
        if not kept.exists() or json.loads(kept.read_text())["key"] != key:
            result = {"key": key} | compare(model, case, steps, folder)
            tqdm.write(json.dumps(result))  # so that a disk that is full by now loses no numbers
            write_text(kept, json.dumps(result, indent=1))
        results.append(json.loads(kept.read_text()))
    return results


def table(results: list[dict[str, Any]]) -> str:
    """Markdown: a row for each scene and the means, cells "bare → with LoRA"."""
    lines = ["| scene | " + " | ".join(MEASURES) + " |", "|---" + "|--:" * len(MEASURES) + "|"]
    groups = [(result["name"], [result]) for result in results]
    groups += [(f"**mean, {kind}**", [r for r in results if r["kind"] == kind]) for kind in ("shapes", "colours")]
    for title, group in [*groups, ("**mean**", results)]:
        means = [[np.mean([r[worn][name] for r in group]) for worn in ("bare", "lora")] for name in MEASURES if group]
        cells = [f"{bare:.1f} → {lora:.1f}" for bare, lora in means]
        lines += ["| " + " | ".join([title, *cells]) + " |"] if group else []
    better = [sum(r["lora"][name] > r["bare"][name] for r in results) for name in MEASURES]
    lines.append("| better in | " + " | ".join(f"{n} of {len(results)}" for n in better) + " |")
    return "\n".join(lines)


def iteration_cost(model: Model, rounds: int = 20) -> float:
    """How many times as long an iteration takes with a LoRA on as without: medians, taken in turns."""
    case, sessions = make_case(0), []
    for dressed in (False, True):
        session = DragSession(model, case.picture, case.prompt)
        session.drags, session.mask = case.drags, case.mask
        if dressed:
            list(session.fit_lora(1))
        session.step()
        sessions.append(session)
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for session, taken in zip(sessions, seconds, strict=True):
            taken.append(session.step().seconds)
    return statistics.median(seconds[1]) / statistics.median(seconds[0])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--scenes", type=int, default=20)
    parser.add_argument("--steps", type=int, default=200, help="of every fit")
    parser.add_argument("--folder", type=Path, default=Path("build/lora"), help="for results and pictures")


def main(given: argparse.Namespace, command: str) -> None:
    model = load_model()
    results = compare_all(model, given.scenes, given.steps, given.folder)
    print(table(results))
    seconds = statistics.median(result["fit_seconds"] for result in results)
    print(f"\nA fit of {given.steps} steps takes {seconds:.0f} s.")
    print(f"An iteration with a LoRA takes {iteration_cost(model):.2f} times as long as without.")
