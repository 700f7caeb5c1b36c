"""Set-up for the notebook front end: Colab's widget manager."""

from __future__ import annotations

from importlib.util import find_spec


def enable_custom_widget_manager() -> bool:
    """In Colab, switch on widgets of third parties, which ipycanvas is; True if this is Colab."""
    try:
        found = find_spec("google.colab")
    except (ImportError, ValueError):  # no package google, or an odd one
        return False
    if found is None:
        return False
    from google.colab import output

    output.enable_custom_widget_manager()
    return True
