"""Pictures beside one another: the studio's two halves, and edits by several methods with linked sliders."""
