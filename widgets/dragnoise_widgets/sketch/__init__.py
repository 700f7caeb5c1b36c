"""Drags and masks as immutable edits with undo, without widgets."""
