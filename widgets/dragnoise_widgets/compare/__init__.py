"""The view that shows several edits of one picture side by side."""
