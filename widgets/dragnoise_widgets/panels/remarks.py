"""Remarks on an edit before it runs: masks and drags that are probably not meant so."""

from __future__ import annotations

from dragnoise import DragSession
from dragnoise.geometry import short_drags
from dragnoise.images.masks import mask_remarks


def remarks(session: DragSession) -> list[str]:
    """The engine's sentences on this session's mask and drags; none if all is well."""
    return [*mask_remarks(session.mask, session.drags), *short_drags(session.drags, session.frame, session.config)]
