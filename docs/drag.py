"""Makes drag.gif of the README: python docs/drag.py"""

from __future__ import annotations

from pathlib import Path

import dragnoise
from dragnoise_widgets import DragStudio, source

studio = DragStudio(source.example(dragnoise.load_model()), inline=True)
studio.run()
studio.save_gif(Path(__file__).parent / "drag.gif", iterations=range(0, len(studio.session.history), 2))
print(studio.session.history[-1])
