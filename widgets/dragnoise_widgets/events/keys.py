"""The keymap of a canvas: which key does what, and the help that says so."""

from __future__ import annotations

import html

Command = tuple
"""The name of an action and its arguments; () for a key that does nothing."""

ARROWS = {"ArrowLeft": (-1, 0), "ArrowRight": (1, 0), "ArrowUp": (0, -1), "ArrowDown": (0, 1)}

KEYMAP: dict[str, Command] = {
    "d": ("tool", "drag"),
    "b": ("tool", "paint"),
    "e": ("tool", "erase"),
    " ": ("run_or_pause",),
    ".": ("step_forward",),
    ",": ("step_back",),
    "z": ("undo",),
    "y": ("redo",),
    "?": ("help",),
    "a": ("add",),
    "enter": ("other_end",),
    "+": ("closer", 1),
    "=": ("closer", 1),
    "-": ("closer", -1),
    "f": ("fit",),
    "[": ("thinner",),
    "]": ("thicker",),
    "delete": ("delete",),
    "backspace": ("delete",),
    "escape": ("deselect",),
    **{str(digit): ("choose", digit) for digit in range(10)},
}
"""By key in lower case, without Ctrl or Cmd."""

NAMED = (*ARROWS, "Enter", "Delete", "Backspace", "Escape")
"""The keys with names of several letters that a canvas takes, as the browser calls them."""

REPEATING = ("nudge", "thinner", "thicker", "closer", "undo", "redo", "step_forward", "step_back")
"""Actions that go on while their key is held down."""

HELP = (
    ("D, B, E", "drag, brush, eraser"),
    ("0 to 9", "choose the drag of this number"),
    ("A", "add a drag, to be moved by the arrows"),
    ("Enter", "choose the other end of the drag"),
    ("Arrows", "move the chosen point by 1 px, with Shift by 10 px"),
    ("Delete", "remove the chosen drag"),
    ("Esc", "choose nothing"),
    ("[ and ]", "thinner or thicker brush"),
    ("+, -, F", "closer, farther, the whole picture; also Ctrl+wheel, two fingers"),
    ("Space or middle button held", "pull the picture"),
    ("Z, Shift+Z", "undo, redo (also with Ctrl or Cmd)"),
    ("Space", "run or pause"),
    (". and ,", "one iteration forward or back"),
    ("Tab", "leave the picture"),
    ("?", "show or hide this list"),
)


def command(key: str, shift: bool, ctrl: bool, meta: bool, repeat: bool = False) -> Command:
    """A key press, as the browser names it -> the action and its arguments; () for a key that does nothing.

    repeat: the press comes from a key that is held down.
    """
    found = _pressed(key, shift, ctrl or meta)
    return () if repeat and found and found[0] not in REPEATING else found


def _pressed(key: str, shift: bool, with_ctrl: bool) -> Command:
    name = key.lower()
    if key in ARROWS and not with_ctrl:
        far = 10 if shift else 1
        dx, dy = ARROWS[key]
        return "nudge", far * dx, far * dy
    if with_ctrl and name not in ("z", "y", "[", "]"):  # brackets take AltGr, which is Ctrl too, on some keyboards
        return ()
    if name == "z" and shift:
        return ("redo",)
    return KEYMAP.get(name, ())


def help_html() -> str:
    """The keys and what they do, as an HTML table."""
    rows = "".join(f"<tr><td><kbd>{html.escape(key)}</kbd></td><td>{html.escape(what)}</td></tr>" for key, what in HELP)
    return f'<table aria-label="Keys" style="line-height: 20px; opacity: 0.85; border-spacing: 12px 0">{rows}</table>'
