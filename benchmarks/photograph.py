"""A whole edit on a Stable Diffusion of full size with random weights: does it fit, and what does each stage take?

    python -m benchmarks photograph                       # SD 1.5 at 512x512 on the processor, in bfloat16
    python -m benchmarks photograph --steps 35 --iterations 40    # the paper's numbers
    python -m benchmarks photograph sdxl --steps 2        # SDXL's at 1024x1024: 17 GB of memory, 7 GB of disk
    python -m benchmarks photograph --device cuda --dtype float16 --memory low

The pipeline is written as the diffusers folder of half-precision safetensors that hubs have, and everything goes
through it as through a real one: load, a step of a LoRA's fit, inversion, iterations, the picture, a saved
session that goes on with the same bits.  Only the pictures mean nothing.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from benchmarks.measuring.timing import peak, wait
from benchmarks.phases import Bench
from benchmarks.shapes import SHAPES, make_pipeline
from dragnoise import DragSession, load_model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shape", nargs="?", default="sd15", choices=[name for name in SHAPES if name != "toyland"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--memory", default="normal")
    parser.add_argument("--steps", type=int, default=7, help="of the inversion")
    parser.add_argument("--iterations", type=int, default=4)
    parser.add_argument("--side", type=int, help="of the picture, default the shape's own")


def main(given: argparse.Namespace, command: str) -> None:
    @contextmanager
    def told(what: str, times: int = 1) -> Iterator[None]:
        """Print what it took."""
        started, used = time.perf_counter(), time.process_time()
        with peak(given.device) as bytes_:
            yield
            wait(given.device)
        clock, processor = time.perf_counter() - started, time.process_time() - used
        print(
            f"{what}: {clock / times:.1f} s, {processor / times:.1f} s of the processor{' each' if times > 1 else ''}, "
            f"peak {bytes_[0] / 2**30:.1f} GiB",
            flush=True,
        )

    with tempfile.TemporaryDirectory() as folder:
        with told("write the random pipeline"):
            make_pipeline(given.shape, dtype=torch.float16).save_pretrained(folder, variant="fp16")
        with told("load it"):
            model = load_model(folder, device=given.device, dtype=given.dtype, memory=given.memory)
        bench = Bench(given.shape, side=given.side, steps=given.steps, model=model)
        session = bench.session(bench.config(supervision_block=SHAPES[given.shape].block))
        with told("a step of a LoRA's fit with one picture"):
            list(session.fit_lora(1, batch_size=1))
        with told("a step of the inversion", given.steps):
            list(session.invert())
        with told("an iteration", given.iterations):
            losses = [session.step().loss for _ in range(given.iterations)]
        with told("the picture, in as many steps as the inversion"):
            picture = session.render()
        with told("save and open"):
            again = DragSession.open(session.save(Path(folder) / "edit.drag"), model)
        assert picture.size == (bench.side, bench.side)
        assert np.isfinite(losses).all()
        same = again.step().loss == session.step().loss
        print(f"losses {', '.join(f'{loss:.4g}' for loss in losses)}; the opened session goes on with the same: {same}")
