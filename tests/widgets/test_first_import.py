"""What the studio imports: a page shows it before torch and matplotlib, which take seconds, have been imported."""

from __future__ import annotations

import subprocess
import sys

SLOW = ("torch", "matplotlib", "diffusers", "transformers", "peft", "scipy", "safetensors")

BEGIN = """
import sys
from dragnoise.toyland import caption, render, sample_scene
from dragnoise_widgets import DragStudio
from dragnoise_widgets.studio import load_queue

class Held:
    submit = staticmethod(lambda *work: None)  # a load would import what the studio itself must not

load_queue._EXECUTOR = Held
scene = sample_scene(20_000_008)
studio = DragStudio(picture=render(scene), prompt=caption(scene), autosave=None)
studio.canvas.drags = [((93, 24), (73, 33))]
studio.parameters.fill()
print(*sys.modules, sep="\\n")
"""


def test_a_studio_can_be_drawn_on_before_torch_is_there() -> None:
    ran = subprocess.run([sys.executable, "-c", BEGIN], capture_output=True, text=True, timeout=120)
    assert not ran.returncode, ran.stderr
    assert "dragnoise_widgets.studio.studio" in ran.stdout.split()
    assert not set(SLOW) & set(ran.stdout.split())


def test_what_needs_torch_needs_it_when_it_is_used() -> None:
    """Names of packages whose modules are imported late are the same objects as those of the modules."""
    from dragnoise import plots, toyland
    from dragnoise.plots.curves import plot_loss
    from dragnoise.toyland.detector import judge

    assert plots.plot_loss is plot_loss
    assert toyland.judge is judge
