"""The session that a studio shows: switching sessions, and settings that its runner gets from the panels."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from PIL import Image

import dragnoise
from dragnoise.geometry import Drag, reach_in_picture
from dragnoise.validation import shown
from dragnoise_widgets.canvas.canvas import DragCanvas
from dragnoise_widgets.compare.preview import Preview
from dragnoise_widgets.export.quick_looks import StudioQuickLooks
from dragnoise_widgets.panels.breakpoints_panel import BreakpointsPanel, BreakpointSync
from dragnoise_widgets.panels.messages import Messages
from dragnoise_widgets.runner.breakpoints import Breakpoint
from dragnoise_widgets.runner.commands import Apply, ReplaceConfig
from dragnoise_widgets.runner.runner import Runner
from dragnoise_widgets.sketch.sketch import Sketch
from dragnoise_widgets.sketch.warp_preview import WarpPreview
from dragnoise_widgets.studio.binding import Binding
from dragnoise_widgets.studio.library import Library
from dragnoise_widgets.studio.presenter import Presenter

if TYPE_CHECKING:
    from dragnoise import DragConfig, DragSession
    from dragnoise.session.diagnosis import Remedy


class Parts(Protocol):
    """The part of `DragStudio` that is used."""

    inline: bool
    canvas: DragCanvas
    messages: Messages
    preview: Preview
    breakpoints: BreakpointsPanel
    looks: StudioQuickLooks
    library: Library
    presenter: Presenter

    def run(self) -> None: ...

    def configure(self, **changes: Any) -> Future[None]: ...


class CurrentSession:
    """binding: to the session shown, None before there is one; replaced as a whole, under a lock."""

    def __init__(self, parts: Parts) -> None:
        self.binding: Binding | None = None
        self._parts = parts
        self._switching = threading.RLock()  # held while another session is shown; the widgets' locks are taken within
        self._breakpoints = BreakpointSync(parts.breakpoints)
        self._pulled = WarpPreview(self._warped, self._reach, inline=parts.inline)
        parts.canvas.pointer.pulled = self._pull

    @property
    def runner(self) -> Runner:
        """The session's runner; waits for a session that is being made.  Raises RuntimeError if there is none."""
        if self.binding is None and self._parts.library.expected is not None:
            self._parts.library.wait()
        if self.binding is None:
            raise RuntimeError("there is no picture yet; upload one, take an example, or set studio.session.")
        return self.binding.runner

    def show(self, session: DragSession) -> None:
        """Show a session; the one before stays among the branches, and its run ends."""
        if not isinstance(session, dragnoise.DragSession):
            raise TypeError(f"a studio shows a DragSession, not {shown(session)}.")
        parts = self._parts
        with self._switching:
            before, left = self.binding, self._left_behind(session)
            keep = before is None and parts.library.expected == session.image and not session.drags
            self.binding = binding = Binding(session, inline=parts.inline)
            if before is not None:
                before.close()
            parts.messages.begin(binding.runner.error or "", binding.runner.traceback)
            parts.presenter.begin(binding, parts.library.adopt(session))
            self.set_preview()
            self.set_breakpoints()
            binding.attach(
                parts.canvas,
                changed=partial(self._drawn, binding),
                pictured=self._given_picture,
                updated=partial(parts.presenter.updated, binding),
                keep=keep,
            )
            parts.presenter.updated(binding, binding.runner.latest)
        if left:
            parts.messages.tell(left)

    def set_preview(self) -> None:
        """Tell the runner what the preview's list says."""
        if self.binding is not None:
            every = self._parts.preview.every.value
            self.binding.runner.preview_every = every
            self.binding.runner.look = self._parts.looks.make if every else None

    def set_number(self, name: str, value: Any) -> Future[None]:
        """Change a number of the config, as it was typed."""
        self._parts.messages.clear()
        return self._parts.configure(**{name: value})

    def set_config(self, config: DragConfig | None) -> Future[None] | None:
        """Take a config as a whole, None for the model's own."""
        model = self.runner.session.model
        if config is None and model is not None:
            config = model.default_config
        return None if config is None else self.runner.do(ReplaceConfig(config))

    def set_breakpoints(self) -> None:
        """Tell the runner which breakpoints are chosen."""
        if self.binding is not None:
            self._breakpoints.apply(self.binding.runner, self.binding.session)

    def add_breakpoint(self, stop: Breakpoint) -> Callable[[], None]:
        """Add a breakpoint to the ticked ones; returns a function that removes it."""
        self._breakpoints.own.append(stop)
        self.set_breakpoints()

        def remove() -> None:
            if stop in self._breakpoints.own:
                self._breakpoints.own.remove(stop)
                self.set_breakpoints()

        return remove

    def apply_remedy(self, remedy: Remedy) -> None:
        """Make the changes of a remedy, and go on with the run if there was one."""
        binding, started = self.binding, bool(self.runner.session.history)
        assert binding is not None
        self._parts.messages.clear()
        done = self._drawn(binding, remedy.apply) if remedy.redraws else binding.runner.do(Apply(remedy.apply))

        def go_on(future: Future[Any]) -> None:
            if started and not future.cancelled() and future.exception() is None:
                self._parts.messages.guarded(self._parts.run)

        done.add_done_callback(go_on)

    def _drawn(self, binding: Binding, function: Callable[[DragSession], Any]) -> Future[Any]:
        """Apply the canvas's drawing to the session; iterations that are lost by it become a branch."""

        def tell(session: DragSession) -> None:
            before = session.branch() if len(session.history) > 1 else None
            function(session)
            told = self._parts.library.branches.keep_replaced(session, before, shown=self.runner.session)
            if told:
                self._parts.messages.tell(told)

        return binding.runner.do(Apply(tell))

    def _pull(self, sketch: Sketch) -> None:
        picture = self._parts.library.expected if self.binding is None else self.binding.session.image
        if picture is not None and self._parts.preview.every.value:
            self._pulled.pull(picture, sketch)

    def _reach(self, drags: Sequence[Drag]) -> float:
        if self.binding is None:
            return 0.0
        state = self.binding.session.state
        return reach_in_picture(state.config, state.frame, drags)

    def _warped(self, picture: Image.Image | None) -> None:
        """Show the warped preview of a drag while it is being pulled; None shows the iteration's picture again."""
        if picture is None:
            self._parts.presenter.refresh()
        else:
            self._parts.preview.show(picture, "preview of the drag", quick=True, mark="without the model")

    def _given_picture(self, change: Any) -> None:
        """Make a new session for a picture that was put on the canvas by code."""
        if change.new is not None:
            self._parts.messages.guarded(self._parts.library.new_sessions.picture, change.new)

    def _left_behind(self, session: DragSession) -> str:
        """A sentence about the run that ends because another session is shown."""
        binding = self.binding
        if binding is None or binding.session is session or binding.runner.state != "running":
            return ""
        return f"the run of {binding.session.name!r} was ended; choose it under Branches to go on with it"
