"""The colours of plots, without matplotlib, so that a page can use them before it has been imported."""

COLOURS = ("#2f6db5", "#dd7a1f", "#2e9163", "#c43c63", "#7a58b5", "#a8841f", "#28b0a8", "#6b6f76")
"""One colour per drag, used again from the ninth on."""

INK, GREY, HAIR = "#333840", "#7b828c", "#e4e7eb"
