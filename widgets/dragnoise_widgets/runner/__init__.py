"""The runner: commands, the worker thread, and the updates that it publishes."""
