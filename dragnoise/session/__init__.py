"""The stepwise session: what is edited, what has been done, and the verbs that take it further."""

from dragnoise.session.session import DragSession

__all__ = ["DragSession"]
