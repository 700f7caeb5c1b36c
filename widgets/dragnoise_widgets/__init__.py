"""The notebook layer of dragnoise: canvas, studio, inspector and runner."""
