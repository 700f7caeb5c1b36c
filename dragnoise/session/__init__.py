"""The stepwise session: its state, history, branches and operations."""
