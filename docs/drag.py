"""Makes drag.gif of the README: python docs/drag.py"""

from __future__ import annotations

from pathlib import Path

import dragnoise
from dragnoise.atomic_write import require_writable
from dragnoise_widgets import DragStudio
from dragnoise_widgets.panels import source

path = Path(__file__).parent / "drag.gif"
require_writable(path)
studio = DragStudio(source.example(dragnoise.load_model()), inline=True)
studio.run()
print(studio.session.history[-1])
studio.save_gif(path, iterations=range(0, len(studio.session.history), 2))
