"""The studio: panels, canvas, runner and sessions put together."""
