"""Which keys a focused canvas takes, and giving all others, and the wheel, back to the page."""

from __future__ import annotations

import html
import json

ARROWS = {"ArrowLeft": (-1, 0), "ArrowRight": (1, 0), "ArrowUp": (0, -1), "ArrowDown": (0, 1)}
BRACKETS = "[]"
PLAIN = {"Delete": "delete", "Backspace": "delete", "Escape": "deselect", "[": "thinner", "]": "thicker"}


def command(key: str, shift: bool, ctrl: bool, meta: bool) -> tuple:
    """A key press -> the name of what it does and its arguments; () for a key that is not the canvas's."""
    if (ctrl or meta) and key not in BRACKETS:  # which take AltGr, that is Ctrl too, on some keyboards
        letter = key.lower()
        if letter == "z":
            return ("redo",) if shift else ("undo",)
        return ("redo",) if letter == "y" else ()
    if key in ARROWS:
        far = 10 if shift else 1
        dx, dy = ARROWS[key]
        return "nudge", far * dx, far * dy
    return (PLAIN[key],) if key in PLAIN else ()


CLASS = "dragnoise-canvas"
"""The CSS class of what holds a canvas whose manners are minded."""

# ipycanvas keeps every key and the wheel from the page, and takes any mouse button for the left one. While
# its own listener runs, the two methods by which it does so are covered, and uncovered right after. Where a
# page runs no such script, nothing but this courtesy is missing.
_SCRIPT = (
    """
if (!window.dragnoiseManners) {
  window.dragnoiseManners = true;
  const keys = KEYS;
  const bracket = e => '[]'.includes(e.key);
  const command = e => bracket(e) || (e.ctrlKey || e.metaKey
    ? 'zy'.includes(e.key.toLowerCase()) : keys.includes(e.key) && !e.altKey);
  const canvas = e => e.target.tagName === 'CANVAS' && e.target.closest('.CLASS');
  const cover = e => {
    if (!canvas(e) || e.type === 'keydown' && command(e)) return;
    e.preventDefault = e.stopPropagation = () => {};
    e.target.parentNode.addEventListener(e.type, () => { delete e.preventDefault; delete e.stopPropagation; },
      {once: true});
  };
  window.addEventListener('keydown', cover, true);
  window.addEventListener('wheel', cover, true);
  for (const type of ['mousedown', 'mouseup']) window.addEventListener(type, e => {
    if (e.button && canvas(e)) e.stopImmediatePropagation();
  }, true);
}
""".strip()
    .replace("KEYS", json.dumps([*ARROWS, *PLAIN]))
    .replace("CLASS", CLASS)
)

MANNERS = (
    f"<style>.{CLASS} canvas {{ cursor: crosshair; outline-offset: -2px; touch-action: none }}</style>"
    f'<img src="data:," alt="" style="display: none" onerror="{html.escape(_SCRIPT)}">'
)
"""HTML that brings the manners to the page it is shown on."""
